"""A DuckDB that reaches nothing: the profile of research/reliability.md §7."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from typing import TYPE_CHECKING

from lakehouse.errors import translated

if TYPE_CHECKING:
    import duckdb

    from lakehouse.sql.limits import Limits

__all__ = ["Sandbox"]

_CLOSED = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",  # else `FROM df` reads the caller's variables
    "enable_external_access": "false",
}


class Sandbox:
    """One locked connection, to an empty database in memory.

    Parameters
    ----------
    limits
        Memory, temporary space and threads of all statements together.
    """

    def __init__(self, limits: Limits) -> None:
        import duckdb

        folder = tempfile.mkdtemp(prefix="lakehouse-sql-")
        options: dict[str, str | bool | int | float | list[str]] = {
            **_CLOSED,
            "memory_limit": f"{limits.memory_nbytes or _machine_nbytes() // 2}B",
            "temp_directory": folder,  # never one beside the user's program, DuckDB's default
            "max_temp_directory_size": f"{limits.temp_nbytes}B",
            "threads": limits.threads or os.cpu_count() or 1,
        }
        try:
            with translated("opening DuckDB"):
                connection = duckdb.connect(":memory:", config=options)
                connection.execute("SET GLOBAL TimeZone = 'UTC'")  # the same answers on every machine
                connection.execute("SET GLOBAL lock_configuration = true")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        # In a list, to be let go of at exit: DuckDB complains about connections that are alive then, closed or not.
        self._connection = [connection]
        self.close = weakref.finalize(self, _close, self._connection, folder)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a cursor: the same locks, no registered tables."""
        return self._connection[0].cursor()


def _close(connection: list[duckdb.DuckDBPyConnection], folder: str) -> None:
    connection.pop().close()
    shutil.rmtree(folder, ignore_errors=True)


def _machine_nbytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
