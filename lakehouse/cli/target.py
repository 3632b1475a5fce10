"""What a command works on: ``LAKE``, ``LAKE/TABLE`` or ``LAKE/TABLE@VERSION``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.errors import InvalidArgumentError
from lakehouse.layout import TABLE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Target", "parse_target"]


@dataclass(frozen=True)
class Target:
    """Where a command works.

    Parameters
    ----------
    lake
        A folder or a URL.
    table
        A table's name; None for the lake itself.
    version
        A number, or the name of a tag or a branch; None for the newest.
    """

    lake: str
    table: str | None = None
    version: int | str | None = None

    def __str__(self) -> str:
        table = f"/{self.table}" if self.table else ""
        return f"{self.lake}{table}" + (f"@{self.version}" if self.version is not None else "")


def parse_target(text: str, is_table: bool | Callable[[str], bool]) -> Target:
    """Read what a user types.

    Parameters
    ----------
    text
        ``lake/pets@3``, ``s3://bucket/lake``, ``pets`` (a table of the lake in the current folder); the
        ``.lance`` of a table's folder may be written.
    is_table
        Whether the last part names a table: known from the command, or found out by asking whether there is
        a folder ``<text>.lance``.

    Raises
    ------
    InvalidArgumentError
        The table or the version is missing, or a lake is given a version.

    Examples
    --------
    >>> parse_target("s3://bucket/lake/pets@v1", is_table=True)
    Target(lake='s3://bucket/lake', table='pets', version='v1')
    >>> parse_target("pets@3", is_table=True)
    Target(lake='.', table='pets', version=3)
    """
    path, version = _split_version(text)
    stem = path.removesuffix(TABLE_SUFFIX)
    if callable(is_table):
        is_table = stem != path or version is not None or is_table(stem + TABLE_SUFFIX)
    if not is_table:
        if version is not None:
            raise InvalidArgumentError(f"{text!r}: a lake has no versions; write LAKE/TABLE@VERSION")
        return Target(path)
    lake, slash, table = stem.rpartition("/")
    if not table or lake.endswith((":/", ":")):
        raise InvalidArgumentError(f"{text!r} names no table; write LAKE/TABLE, for example lake/pets")
    return Target(lake or ("/" if slash else "."), table, version)


def _split_version(text: str) -> tuple[str, int | str | None]:
    folder, slash, last = text.rstrip("/").rpartition("/")
    name, at, version = last.rpartition("@")
    if not at or folder.endswith(":/"):  # s3://user@bucket has no version
        return text.rstrip("/") or text, None
    if not version:
        raise InvalidArgumentError(f"{text!r}: write a version or a tag after the '@', as in lake/pets@3")
    return folder + slash + name, int(version) if version.isdigit() else version
