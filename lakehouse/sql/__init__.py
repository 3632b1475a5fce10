"""SQL over a lake: DuckDB in a sandbox that sees the tables and nothing else."""

from lakehouse.sql.attached import attach
from lakehouse.sql.engine import Engine
from lakehouse.sql.limits import Limits, SqlLimits
from lakehouse.sql.planner import TableName
from lakehouse.sql.result import Result

__all__ = ["Engine", "Limits", "Result", "SqlLimits", "TableName", "attach"]
