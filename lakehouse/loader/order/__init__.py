"""Which row stands at which position: pure functions of a few integers."""
