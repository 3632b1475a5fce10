"""Computed values on their way into the table: checkpoints, column files, commits that land."""
