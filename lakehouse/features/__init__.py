"""Feature columns: a user's function on one side, a column that knows whether it is still true on the other.

From the ground up: `udfs` is the function, `storing` puts values into the table, `records` tells what is known of each
column, `computing` runs functions somewhere, `jobs` is the backfill, and `evolution` declares, changes, rolls back and
drops columns.
"""
