"""SQL over a lake: DuckDB in a sandbox that sees the tables and nothing else."""

from lakehouse.sql.attached import attach
from lakehouse.sql.engine import Engine
from lakehouse.sql.limits import SqlLimits
from lakehouse.sql.result import Result
from lakehouse.sql.statement.planner import TableName

__all__ = ["Engine", "Result", "SqlLimits", "TableName", "attach"]
