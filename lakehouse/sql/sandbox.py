"""A DuckDB that reaches nothing: no file, network, extension, secret, setting or Python variable."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from typing import TYPE_CHECKING

from lakehouse.errors import translated
from lakehouse.sql.functions import register
from lakehouse.where import literal

if TYPE_CHECKING:
    import duckdb

    from lakehouse.sql.limits import SqlLimits

__all__ = ["Sandbox", "machine_nbytes"]

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",  # else `FROM df` reads the caller's variables
}


class Sandbox:
    """One locked connection, to an empty database in memory.

    Parameters
    ----------
    limits
        Memory, temporary space and threads of all statements together.
    """

    def __init__(self, limits: SqlLimits) -> None:
        import duckdb

        folder = tempfile.mkdtemp(prefix="lakehouse-sql-")
        # By SET, in this order: given to connect(), DuckDB 2.0.0 shows the limit on temporary space and exceeds it.
        settings = {
            "memory_limit": f"{limits.memory_nbytes or machine_nbytes() // 2}B",
            "temp_directory": folder,  # DuckDB's default is a folder where the program was started
            "max_temp_directory_size": f"{limits.temp_nbytes}B",
            "threads": limits.threads or os.cpu_count() or 1,
            "TimeZone": "UTC",  # the same answers on every machine
            "enable_external_access": False,
            "lock_configuration": True,
        }
        try:
            with translated("opening DuckDB"):
                connection = duckdb.connect(":memory:", config=_CLOSED)
                register(connection)
                for name, value in settings.items():
                    connection.execute(f"SET GLOBAL {name} = {literal(value)}")
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


def machine_nbytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
