"""Which rows: a version and a filter, held small, with what is known of their features."""
