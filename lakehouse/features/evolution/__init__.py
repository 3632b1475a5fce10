"""Columns that are declared, filled from elsewhere, changed, put back and dropped."""
