"""Feature columns: what fills them, what they were made from, how they get into the table."""
