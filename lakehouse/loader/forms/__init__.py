"""What a column becomes: numbers, codes, pictures of one size, clips, packed tokens; in torch or NumPy."""
