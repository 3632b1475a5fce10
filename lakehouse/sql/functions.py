"""Functions on media in SQL: ``image_width(image)``, ``video_duration_s(clip)``, ``thumbnail(image, 64)``.

A column that a function is called on travels as row ids like one that is handed through
(`lakehouse.sql.scans.carried`), so its bytes are read for the rows that reach the call, a few megabytes at a time. Each
call in a statement is marked with a key, by which DuckDB's one registered function finds the statement it works for.
"""

from __future__ import annotations

import secrets
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import types
from lakehouse.errors import InvalidArgumentError, LakehouseError, MediaError, QueryError
from lakehouse.media import handles, sizes
from lakehouse.media.blobs import MediaBatch
from lakehouse.sql.fetching import FETCHES, as_returned, fetched
from lakehouse.sql.media_functions import FUNCTIONS, check_number, check_types, wrong_arguments
from lakehouse.sql.scans.carried import carried_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import duckdb

    from lakehouse.sql.scans.carried import Carried
    from lakehouse.sql.statement.syntax import Node

__all__ = ["ERRORS", "FUNCTIONS", "OWN", "Calls", "calls_in", "mark", "register", "rename_own", "takes_row_ids"]


ERRORS = pa.schema([("function", pa.string()), ("num_failed", pa.int64()), ("message", pa.string())])


OWN = {"sha256": "media_sha256", "octet_length": "media_nbytes"}


def calls_in(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield the calls of these functions among nodes."""
    for node in nodes:
        if node.get("class") == "FUNCTION" and node["function_name"].lower() in FUNCTIONS:
            yield node


def takes_row_ids(name: str) -> bool:
    """Whether a function is given media, texts or vectors as row ids."""
    return name.lower() in FUNCTIONS or name in FETCHES


def rename_own(nodes: Iterable[Node], columns: Iterable[Carried]) -> None:
    """Put our functions in the place of DuckDB's where they are called on what is named like a media column.

    Parameters
    ----------
    nodes
        The statement's nodes; they are changed.
    columns
        Columns of its tables.
    """
    media = {each.column.casefold() for each in columns if types.is_bytes_media(each.field)}
    for node in nodes if media else ():
        if node.get("class") != "FUNCTION" or node["function_name"].lower() not in OWN or len(node["arguments"]) != 1:
            continue
        given = node["arguments"][0]["expression"]
        if given.get("class") == "COLUMN_REF" and given["column_names"][-1].casefold() in media:
            node["function_name"] = OWN[node["function_name"].lower()]
            node["qualified_name"] = {"path": [node["function_name"]]}


def mark(nodes: Iterable[Node], carried: Mapping[str, Carried], *, strict: bool) -> Calls | None:
    """Hand each call the key of its statement, as the last argument; None where there is no call.

    Raises
    ------
    QueryError
        A call has too few or too many arguments.
    """
    called = [each for each in nodes if each.get("class") == "FUNCTION" and takes_row_ids(each["function_name"])]
    calls = Calls(carried, strict=strict) if called else None
    for node in called:
        if node["function_name"] not in FETCHES:
            _check_arguments(node)
        literal = {"kind": "STRING", "text": calls.key if calls else ""}
        constant = {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "literal": literal}
        node["arguments"].append({"name": "", "expression": {**constant, "query_location": 0}})
    return calls


def _check_arguments(call: Node) -> None:
    if any(each["name"] for each in call["arguments"]):
        raise wrong_arguments(call["function_name"].lower())
    check_number(call["function_name"].lower(), len(call["arguments"]) - 1)


class Calls:
    """The calls of one statement: what they work on, and what could not be computed.

    Parameters
    ----------
    carried
        The columns that travel as row ids.
    strict
        Whether a medium that cannot be read ends the statement; else its value is NULL, and counted.
    """

    live: ClassVar[WeakValueDictionary[str, Calls]] = WeakValueDictionary()  # DuckDB's functions serve all statements

    def __init__(self, carried: Mapping[str, Carried], *, strict: bool) -> None:
        self.key = secrets.token_hex(8)
        self.error: LakehouseError | None = None
        self.stopped = False
        self._strict = strict
        self._carried = carried
        self._failed: Counter[str] = Counter()
        self._told: dict[str, str] = {}
        self.live[self.key] = self

    def errors(self) -> pa.Table:
        """Return ``function, num_failed, message``, the message of the first failure of each."""
        rows = [
            {"function": name, "num_failed": count, "message": self._told[name]}
            for name, count in sorted(self._failed.items())
        ]
        return pa.Table.from_pylist(rows, schema=ERRORS)

    def compute(self, name: str, media: pa.Array, arguments: Sequence[pa.Array]) -> pa.Array:
        """Compute a function for one of DuckDB's batches, each distinct row of it once.

        Raises
        ------
        QueryError
            The column or an argument is not what the function takes.
        MediaError, InvalidArgumentError
            The statement is strict, and a medium does not decode or has not what is asked.
        """
        source = carried_by(media.type, self._carried)
        if name in FETCHES:
            returned = FETCHES[name][1]
            return fetched(source, pc.struct_field(media, [0]), returned) if source else as_returned(media, returned)
        function = FUNCTIONS[name]
        check_number(name, len(arguments))
        check_types(name, media, source, arguments)
        if source is not None:
            keys = pc.struct_field(media, [0])
            opened = _stored(source, function.kind, keys)
        else:
            keys = pa.array(np.arange(len(media)), mask=np.asarray(pc.is_null(media)))
            opened = ((key, _given(media, key, function.kind)) for key in keys.drop_null().to_pylist())
        places: dict[int, list[int]] = {}
        for place, key in enumerate(keys.to_pylist()):
            if key is not None:
                places.setdefault(key, []).append(place)
        numbers = [column.to_pylist() for column in arguments]
        values: list[Any] = [None] * len(media)
        for key, medium in opened:
            for place in places[key]:
                if self.stopped:  # by Ctrl-C or the clock; DuckDB looks for them between batches only
                    raise QueryError("stopped")
                more = [column[place] for column in numbers]
                values[place] = None if None in more else self._one(name, medium, more, source)
        return pa.array(values, function.arrow)

    def _one(self, name: str, medium: Any, more: list[Any], source: Carried | None) -> Any:
        try:
            return FUNCTIONS[name].compute(medium, *more)
        except LakehouseError as error:
            where = f" of {source.snapshot.name!r}, column {source.column!r}" if source else ""
            by_row = isinstance(error, MediaError | InvalidArgumentError)
            if self._strict or not by_row:
                other = "; without strict=True it would be NULL and counted" if by_row else ""
                self.error = type(error)(f"{name}(){where}: {error}{other}")
                raise self.error from error
            self._failed[name] += 1
            self._told.setdefault(name, f"{where.removeprefix(' of ')}: {error}" if where else str(error))
            return None


def _stored(source: Carried, kind: str, keys: pa.Array) -> Iterator[tuple[int, handles.Handle]]:
    """Yield the media of row ids, each once, a bounded number of bytes at a time."""
    ids = np.asarray(keys.drop_null().unique().sort())
    rows = sizes.rows_per_batch(source.snapshot, [source.column])
    for start in range(0, len(ids), rows):
        few = ids[start : start + rows].tolist()
        batch = MediaBatch(source.snapshot, source.column, few)
        for at, row_id in enumerate(few):
            if not batch.is_null(at):
                yield row_id, handles.handle(kind, batch.source(at))


def _given(media: pa.Array, at: int, kind: str) -> handles.Handle:
    """Return the medium whose bytes stand in the statement itself, or come from ``tables=``."""
    return handles.handle(kind, handles.BytesSource(media[at].as_py()))


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the functions known to a connection and its cursors."""
    returned = {name: function.returns for name, function in FUNCTIONS.items()}
    for name, returns in {**returned, **{name: returns for name, (returns, _) in FETCHES.items()}}.items():
        # With no parameters named, DuckDB hands over whatever is written; its stub knows enums where it takes words.
        connection.create_function(  # type: ignore[call-overload]
            name,
            partial(_called, name),
            None,
            returns,
            type="arrow",
            null_handling="special",
        )


def _called(name: str, media: Any, *arguments: Any) -> pa.Array:
    *given, keys = arguments
    calls = Calls.live.get(keys[0].as_py())
    if calls is None:
        raise QueryError(f"{name}() is called outside of a statement of lake.sql")
    whole = media.combine_chunks() if isinstance(media, pa.ChunkedArray) else media
    try:
        return calls.compute(name, whole, given)
    except LakehouseError as error:
        calls.error = error
        raise
