"""Ways to ask SQL: a lake, DuckDB over its own format, Parquet and plain Lance, and DuckDB's Lance extension."""
