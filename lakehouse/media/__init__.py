"""Media: bytes to pixels, containers to frames, cells to lazy handles."""
