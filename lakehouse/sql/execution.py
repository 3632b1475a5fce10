"""One statement on its own cursor: bound when it is asked, run once, stopped by Ctrl-C or a clock."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from lakehouse.errors import QueryError, ResourceLimitError, translated
from lakehouse.sql.dataset import SnapshotDataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import duckdb

    from lakehouse.sql.media import Carried

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
    timeout_s
        Seconds it may compute; None means as long as it takes.
    """

    asked: str
    text: str
    params: Mapping[str, Any]
    tables: Mapping[str, Any]
    carried: Mapping[str, Carried] = field(default_factory=dict)
    timeout_s: float | None = None


class Execution:
    """A statement bound on a cursor, which it owns.

    Raises
    ------
    QueryError
        The statement names what is not there, or its types do not fit.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, question: Question) -> None:
        self._question = question
        self._cursor = cursor
        self._left_s = question.timeout_s
        with self._errors():
            for slot, table in question.tables.items():
                cursor.register(slot, table)
            self._relation = cursor.sql(question.text, params=dict(question.params))
        # Tables registered on a cursor that is only forgotten are still there at exit, and DuckDB complains.
        self.close = weakref.finalize(self, cursor.close)

    @property
    def question(self) -> Question:
        """What is answered."""
        return self._question

    def hands_media_through(self) -> bool:
        """Whether media that travel as row ids come out as such, not inside of something computed."""
        whole = {f'STRUCT("{name}" UBIGINT)' for name in self._question.carried}
        kinds = [str(kind) for kind in self._relation.types]
        return all(kind in whole or not any(name in kind for name in self._question.carried) for kind in kinds)

    def schema(self) -> pa.Schema:
        """Return the columns of the answer without computing it."""
        with self._errors():
            return self._relation.limit(0).to_arrow_table().schema

    def batches(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Run the statement; rows come as they are computed."""
        reader = self._watched(lambda: self._relation.to_arrow_reader(_BATCH_ROWS))
        return reader.schema, self._read(reader)

    def _read(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            while (batch := self._watched(lambda: next(reader, None))) is not None:
                if batch.num_rows:
                    yield batch
        finally:
            reader.close()
            self.close()

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
        while not future.done():
            self._cursor.interrupt()
            try:
                future.exception(_ASK_AGAIN_S)
            except TimeoutError:
                continue

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors as ours: those of the tables as they were raised, DuckDB's without the rewritten text."""
        try:
            with translated(self._question.asked):
                yield
        except QueryError as error:
            for table in self._question.tables.values():
                if isinstance(table, SnapshotDataset) and table.error is not None:
                    raise table.error from error
            raise QueryError(str(error).partition("\n\nLINE ")[0]) from error.__cause__
