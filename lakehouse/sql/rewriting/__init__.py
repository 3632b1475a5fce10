"""The statement made cheaper: what can wait until LIMIT and joins are done, and which keys a small side brings."""
