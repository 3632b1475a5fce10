"""A user's function: its types and inputs, the hash of its code, how it is called, its way to other processes."""
