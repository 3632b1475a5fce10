"""One statement on its own cursor: bound when it is asked, run once, stopped by Ctrl-C or a clock."""

from __future__ import annotations

import re
import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from lakehouse.errors import LakehouseError, QueryError, ResourceLimitError, translate, translated
from lakehouse.sql.dataset import SnapshotDataset
from lakehouse.sql.searches import SearchDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import duckdb

    from lakehouse.sql.carried import Carried
    from lakehouse.sql.functions import Calls

__all__ = ["Execution", "Question"]

T = TypeVar("T")

_BATCH_ROWS = 131_072  # 64 of DuckDB's vectors: few hand-overs, a few MB of plain columns
_ASK_AGAIN_S = 0.1  # an interrupt before the statement has begun is lost, so it is repeated


@dataclass(frozen=True, eq=False)
class Question:
    """A statement ready to run.

    Parameters
    ----------
    asked
        The statement in the user's words, shortened.
    text
        The statement with slots for tables.
    params
        Values of its parameters.
    tables
        What lies in each slot: a `SnapshotDataset` or what the caller handed in.
    carried
        Media columns that travel as row ids, by the field name of their struct.
    calls
        Its calls of media functions, if it has any.
    timeout_s
        Seconds it may compute; None means as long as it takes.
    """

    asked: str
    text: str
    params: Mapping[str, Any]
    tables: Mapping[str, Any]
    carried: Mapping[str, Carried] = field(default_factory=dict)
    calls: Calls | None = None
    timeout_s: float | None = None

    def read_by_lance(self) -> list[str]:
        """Say what Lance does of the work, a line a table."""
        lines = []
        for slot, table in self.tables.items():
            if isinstance(table, SnapshotDataset):
                late = [column.column for column in self.carried.values() if column.slot == slot]
                notes = (
                    [f"Lance answers {table.where}{' from an index' if table.index_used() else ''}"]
                    if table.where
                    else []
                )
                notes += [f"read for the rows of the result: {', '.join(late)}"] if late else []
                lines += [f"{table.name}: {'; '.join(notes)}"] if notes else []
        return lines


@dataclass(eq=False)
class _Held:
    """DuckDB's objects, apart from what may outlive them."""

    cursor: duckdb.DuckDBPyConnection | None
    relation: duckdb.DuckDBPyRelation | None
    reader: pa.RecordBatchReader | None = None

    def let_go(self) -> None:
        if self.reader is not None:
            self.reader.close()
        if self.cursor is not None:
            self.cursor.close()
        self.cursor = self.relation = self.reader = None


class Execution:
    """A statement bound on a cursor, which it owns.

    Raises
    ------
    QueryError
        The statement names what is not there, or its types do not fit.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, question: Question) -> None:
        self._question = question
        self._left_s = question.timeout_s
        with self._errors():
            for slot, table in question.tables.items():
                cursor.register(slot, table)
            relation = cursor.sql(question.text, params=dict(question.params))
        # DuckDB complains about whatever of it is alive at exit, even in a stream that is only half read.
        self._held = _Held(cursor, relation)
        self.close = weakref.finalize(self, self._held.let_go)

    @property
    def question(self) -> Question:
        """What is answered."""
        return self._question

    @property
    def _relation(self) -> duckdb.DuckDBPyRelation:
        if self._held.relation is None:
            raise QueryError("this result was closed before its rows were fetched; ask lake.sql(…) again")
        return self._held.relation

    def hands_media_through(self) -> bool:
        """Whether media that travel as row ids come out as such, not inside of something computed."""
        whole = {f'STRUCT("{name}" UBIGINT)' for name in self._question.carried}
        kinds = [str(kind) for kind in self._relation.types]
        return all(kind in whole or not any(name in kind for name in self._question.carried) for kind in kinds)

    def schema(self) -> pa.Schema:
        """Return the columns of the answer without computing it."""
        with self._errors():
            schema = self._relation.limit(0).to_arrow_table().schema
        # LIMIT 0 makes a subquery, which gives two columns of one name different ones.
        names = self._relation.columns
        return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])

    def batches(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Run the statement; rows come as they are computed."""
        relation = self._relation
        reader = self._watched(lambda: relation.to_arrow_reader(_BATCH_ROWS))
        self._held.reader = reader
        return reader.schema, self._read()

    def _read(self) -> Iterator[pa.RecordBatch]:
        try:
            while (batch := self._watched(self._next)) is not None:
                if batch.num_rows:
                    yield batch
        finally:
            self.close()

    def _next(self) -> pa.RecordBatch | None:
        return next(self._held.reader, None) if self._held.reader is not None else None

    def explain(self, cursor: duckdb.DuckDBPyConnection) -> str:
        """Return DuckDB's plan, made on another cursor: this one may have rows under way."""
        with self._errors():
            for slot, table in self._question.tables.items():
                cursor.register(slot, table)
            ((_, plan),) = cursor.execute(f"EXPLAIN {self._question.text}", dict(self._question.params)).fetchall()
        return str(plan)

    def _watched(self, call: Callable[[], T]) -> T:
        """Call in another thread: DuckDB 2.0 looks for Ctrl-C only when it is done."""
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - handed to the caller, Rust panics included
                future.set_exception(error)

        start = time.monotonic()
        threading.Thread(target=work, name="lakehouse-sql", daemon=True).start()
        try:
            future.exception(self._left_s)
        except TimeoutError:
            self._stop(future)
            raise ResourceLimitError(
                f"{self._question.asked}: stopped after timeout_s = {self._question.timeout_s:g} s; "
                "ask for less, or raise the limit"
            ) from None
        except BaseException:
            self._stop(future)
            raise
        if self._left_s is not None:
            self._left_s = max(0.0, self._left_s - (time.monotonic() - start))
        with self._errors():
            return future.result()

    def _stop(self, future: Future[Any]) -> None:
        if self._question.calls is not None:
            self._question.calls.stopped = True
        while not future.done():
            if self._held.cursor is not None:
                self._held.cursor.interrupt()
            try:
                future.exception(_ASK_AGAIN_S)
            except TimeoutError:
                continue

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors as ours: those of the tables as they were raised, DuckDB's without the text that was run."""
        try:
            with translated(self._question.asked):
                yield
        except LakehouseError as error:
            if self._question.calls is not None and self._question.calls.error is not None:
                raise self._question.calls.error from error
            for table in self._question.tables.values():
                if isinstance(table, SnapshotDataset | SearchDataset) and table.error is not None:
                    raise table.error from error
            raise _reworded(error, self._question) from error.__cause__


# DuckDB's errors from an Arrow stream are an OSError or ArrowInvalid with DuckDB's words.
_FROM_STREAM = re.compile(r"^(?:\w+: )?((?:[A-Z][\w-]+ )+Error): ", re.IGNORECASE)
_FROM_TABLE = re.compile(r"reading the stream registered as '(\w+)' failed: (?:\w+: )?(.*)", re.DOTALL)
_ADVICE = re.compile(r"\n\n(?:LINE \d|Possible solutions|See also).*", re.DOTALL)


def _reworded(error: LakehouseError, question: Question) -> LakehouseError:
    cause = error.__cause__
    text = str(cause) if cause is not None else str(error)
    if found := _FROM_TABLE.search(text):
        table = question.tables.get(found[1])
        name = repr(table.name) if isinstance(table, SnapshotDataset | SearchDataset) else "a table of tables="
        return translate(OSError(found[2]), f"{question.asked}: reading {name}")
    if isinstance(error, ResourceLimitError) or "Out of Memory Error" in text:
        words = _ADVICE.sub("", text)
        return ResourceLimitError(
            f"{question.asked}: {words}; ask for less at a time, or raise memory_nbytes of the limits"
        )
    if isinstance(error, QueryError) or _FROM_STREAM.match(text):
        return QueryError(f"{question.asked}: {_ADVICE.sub('', text)}")
    return error
