"""A backfill: which rows, in which passes, with which failures, and the log of its runs."""
