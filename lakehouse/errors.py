r"""What can go wrong, grouped by what a handler would do about it.

::

    LakehouseError
    ├── NotFoundError (LookupError)          ask for something that is there
    │   ├── TableNotFoundError
    │   ├── ColumnNotFoundError
    │   ├── RowNotFoundError
    │   ├── VersionNotFoundError
    │   └── IndexNotFoundError
    ├── AlreadyExistsError                   choose another name, or exist_ok=True
    ├── InvalidArgumentError (ValueError)    mend the call
    │   ├── SchemaError                      mend the schema or the data's columns
    │   ├── FilterError                      mend the predicate
    │   └── QueryError                       mend the SQL
    ├── DataError (ValueError)               mend the data, or choose another on_* policy
    │   ├── BadRowsError
    │   ├── DuplicateKeyError
    │   └── MediaError                       bytes that are not the picture or video they claim to be
    ├── ReadOnlyError                        use a handle that can write
    ├── ConflictError                        reload and try again: somebody else was first
    ├── BackfillError                        run it again: what was computed is kept
    ├── ResourceLimitError                   ask for less, or raise the limit named in the message
    ├── MissingDependencyError (ImportError) install the extra named in the message
    ├── StorageError (OSError)               look at the path, the permissions, the network
    └── UnsupportedTableError                a table of another make or a newer format
        └── CorruptTableError                a file of the table is damaged

Lance's errors carry no type of their own and DuckDB's carry too many; `translate` is the one place where
either becomes one of these. Every message says what was asked, what is there and what to do.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lakehouse._messages import Outcome, brief, carried, classify, clean, is_panic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "AlreadyExistsError",
    "BackfillError",
    "BadRowsError",
    "ColumnNotFoundError",
    "ConflictError",
    "CorruptTableError",
    "DataError",
    "DuplicateKeyError",
    "FilterError",
    "IndexNotFoundError",
    "InvalidArgumentError",
    "LakehouseError",
    "MediaError",
    "MissingDependencyError",
    "NotFoundError",
    "QueryError",
    "ReadOnlyError",
    "ResourceLimitError",
    "RowNotFoundError",
    "SchemaError",
    "StorageError",
    "TableNotFoundError",
    "UnsupportedTableError",
    "VersionNotFoundError",
]


class LakehouseError(Exception):
    """Everything this library raises on purpose."""


class NotFoundError(LakehouseError, LookupError):
    """What was asked for is not there."""


class TableNotFoundError(NotFoundError):
    """No table of that name in the lake."""


class ColumnNotFoundError(NotFoundError):
    """No column of that name in the table."""


class RowNotFoundError(NotFoundError):
    """No row with that key, row id or offset."""


class VersionNotFoundError(NotFoundError):
    """No such version, tag or branch, or it was cleaned up."""


class IndexNotFoundError(NotFoundError):
    """No index on that column."""


class AlreadyExistsError(LakehouseError):
    """The name is taken."""


class InvalidArgumentError(LakehouseError, ValueError):
    """A call that cannot be carried out as written."""


class SchemaError(InvalidArgumentError):
    """A schema that contradicts itself, its table or the data."""


class FilterError(InvalidArgumentError):
    """A predicate that does not parse or names what is not there."""


class QueryError(InvalidArgumentError):
    """SQL that does not parse, does not bind, or is not allowed."""


class DataError(LakehouseError, ValueError):
    """Data that cannot be stored as it is."""


class BadRowsError(DataError):
    """Rows or files that cannot be read; the first one is named."""


class DuplicateKeyError(DataError):
    """A key that is in the table or twice in the data."""


class MediaError(DataError):
    """Bytes that do not decode as the media they claim to be."""


class ReadOnlyError(LakehouseError):
    """A write through a pinned handle or a read-only lake."""


class ConflictError(LakehouseError):
    """Somebody else's commit came first; reload and try again."""


class BackfillError(LakehouseError):
    """A backfill that stopped; what it computed is kept and found again."""


class ResourceLimitError(LakehouseError):
    """More memory, time, rows or media than the limit in force."""


class MissingDependencyError(LakehouseError, ImportError):
    """An optional package is not installed."""


class StorageError(LakehouseError, OSError):
    """The place where the lake lies cannot be read or written."""


class UnsupportedTableError(LakehouseError):
    """A table this library cannot write, or a lake of a newer format."""


class CorruptTableError(UnsupportedTableError):
    """A file of the table is missing or damaged."""


def closest(name: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` or nothing."""
    match = get_close_matches(name, [*names], n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""


def no_column(name: str, names: Iterable[str]) -> ColumnNotFoundError:
    """Say which column was asked for and which are there."""
    names = [*names]
    there = listed(names) or "no columns"
    return ColumnNotFoundError(f"no column {name!r}; the table has {there}{closest(name, names)}")


def listed(names: Iterable[str]) -> str:
    """Return names with commas between; of many the first twenty, and how many more there are.

    Examples
    --------
    >>> listed(map(str, range(22)))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 2 more'
    """
    names = [*names]
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


_MOST_NAMES = 20
_ASKED_CHARS = 300
_LOOK_AROUND = "; check the location, the permissions and the connection"
_RESTORE = "; a file of the table is missing or damaged: open the table again, or restore an older version"

# What Lance 14.0.2 and its object stores mean by their texts; the first match wins.
_MEANINGS: tuple[tuple[str, type[LakehouseError], str], ...] = (
    (
        (
            r"corrupt file|internal error|failed to fill whole buffer|Invalid range .* for object of size"
            r"|sufficient data|file size is too small|invalid magic|overflowing position|outside metadata"
            r"|differing lengths|decode Protobuf|Parser error: (?:Arrow|Unable)|before end of stream|panicked"
        ),
        CorruptTableError,
        _RESTORE,
    ),
    (r"Not found: [^\n]*\.lance/_versions$", TableNotFoundError, "; the table was dropped"),
    (r"_versions/\d+\.manifest", VersionNotFoundError, "; that version was cleaned up, or never was"),
    (r"Ref not found|Version not found|Not found: \S*/tree/", VersionNotFoundError, ""),
    (r"Dataset at path \S+ was not found", TableNotFoundError, ""),
    (r"index not found", IndexNotFoundError, ""),
    (r"non-existent fragment", RowNotFoundError, ""),
    (
        r"FieldNotFound|[Cc]olumn \S+ (?:does not exist|is not in)|not found in schema",
        ColumnNotFoundError,
        "",
    ),
    (r"already exists", AlreadyExistsError, ""),
    (r"Ambiguous merge", DuplicateKeyError, ""),
    (r"different schema|LanceError\(Schema\)|Type conflicts", SchemaError, ""),
    (
        (
            r"Generic \w+ error: |\(os error \d+\)|No object store provider|bucket from url"
            r"|object store prefix|InvalidUri|Protocol not known"
        ),
        StorageError,
        _LOOK_AROUND,
    ),
    (
        (
            r"Error (?:parsing|tokenizing|resolving|applying)|No field named|not supported SQL"
            r"|return a boolean|feature is not implemented"
        ),
        FilterError,
        "",
    ),
    (r"Not found: ", CorruptTableError, _RESTORE),
    (r"Invalid user input|Ref is invalid", InvalidArgumentError, ""),
)
# Packages below fsspec whose errors are not OSErrors.
_REMOTE = {"aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "urllib3"}


def translate(error: BaseException, asked: str) -> LakehouseError:
    """Turn an error of Lance, DuckDB or a file system into one of ours.

    A mistake in this library's own code is raised again as it is.

    Parameters
    ----------
    error
        What was raised. Its text is cleaned in place: a traceback shows the cause too.
    asked
        What was being done, in the user's words: ``reading 'pets' where 'widht > 3'``.
    """
    if isinstance(error, LakehouseError):
        return error
    if _is_mistake(error):
        raise error
    _clean_chain(error)
    text = str(error)
    asked = asked if len(asked) <= _ASKED_CHARS else asked[: _ASKED_CHARS - 1] + "…"
    package = type(error).__module__.partition(".")[0].removeprefix("_")
    if raised := carried(text):
        return _raised_in_stream(*raised, asked)
    if package == "duckdb":
        return _from_duckdb(type(error).__name__, text, asked)
    words = brief(text) or type(error).__name__
    if classify(error) in (Outcome.RETRYABLE, Outcome.INCOMPATIBLE):
        return ConflictError(f"{asked}: another commit came first ({words}); open the table again and retry")
    if isinstance(error, ImportError):
        return MissingDependencyError(f"{asked}: {words}")
    if isinstance(error, MemoryError):
        return ResourceLimitError(f"{asked}: out of memory; read fewer rows or columns at a time")
    if package in _REMOTE or (isinstance(error, OSError) and (error.errno or type(error) is not OSError)):
        return StorageError(f"{asked}: {words}{_LOOK_AROUND}")
    for pattern, kind, advice in _MEANINGS:
        if re.search(pattern, text, re.DOTALL):
            return kind(f"{asked}: {words}{advice}")
    if is_panic(error):
        return CorruptTableError(f"{asked}: Lance stopped inside ({words}){_RESTORE}")
    if "External error" not in text and isinstance(error, (ValueError, TypeError, OverflowError)):
        return InvalidArgumentError(f"{asked}: {words}")
    return LakehouseError(f"{asked}: {words}")


def _from_duckdb(kind: str, text: str, asked: str) -> LakehouseError:
    text = text.partition("\n\nStack Trace")[0]
    if kind == "OutOfMemoryException":
        return ResourceLimitError(f"{asked}: {text}")
    if kind == "InterruptException":
        return ResourceLimitError(f"{asked}: stopped before it was done ({text})")
    if kind in ("IOException", "HTTPException"):
        return StorageError(f"{asked}: {text}")
    if kind == "PermissionException":
        text += "\nSQL here reads the lake's tables and what `tables=` hands in, nothing else"
    return QueryError(f"{asked}: {text}")


def _raised_in_stream(name: str, message: str, asked: str) -> LakehouseError:
    """Give ours back as it was, Ctrl-C as itself."""
    if name == "KeyboardInterrupt":
        raise KeyboardInterrupt
    ours = globals().get(name.removeprefix(f"{__name__}.")) if name.startswith(f"{__name__}.") else None
    return ours(message) if ours else DataError(f"{asked}: reading the data stopped at {name}: {message}")


def _clean_chain(error: BaseException | None) -> None:
    while error is not None:
        error.args = tuple(clean(a) if isinstance(a, str) else a for a in error.args)
        error = error.__cause__ or error.__context__


def _is_mistake(error: BaseException) -> bool:
    """Whether it went wrong in our own lines: nothing that Lance could explain, or a user could mend."""
    if isinstance(error, (AssertionError, AttributeError, NameError, StopIteration)):
        return True
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = frame.tb_frame.f_globals.get("__name__", "") if frame else ""
    return isinstance(error, (LookupError, TypeError)) and where.startswith("lakehouse.")


@contextmanager
def translated(asked: str) -> Iterator[None]:
    """Run a block whose foreign errors come out as ours.

    Rust panics are a `BaseException`; they are translated too, `KeyboardInterrupt` and its like are not.
    """
    try:
        yield
    except BaseException as error:  # a Rust panic is no Exception
        if isinstance(error, LakehouseError) or not (isinstance(error, Exception) or is_panic(error)):
            raise
        raise translate(error, asked) from error
