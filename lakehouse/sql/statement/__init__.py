"""What was asked: the statement as a tree, what it names, and the places in it where something else is put."""
