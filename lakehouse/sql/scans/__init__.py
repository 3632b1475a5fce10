"""What DuckDB is handed: versions of tables, searches, columns in memory, and the conditions that Lance answers."""
