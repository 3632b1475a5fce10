"""What is read, in a form that another process can open: a place and a version, never a handle or a secret."""

from __future__ import annotations

import _thread
import atexit
import weakref
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakehouse.errors import LakehouseError
from lakehouse.loader.columns import ROW_ID, Column, Form, column_of
from lakehouse.loader.plan import Plan
from lakehouse.loader.selection import select
from lakehouse.location import Location
from lakehouse.pins import pinned
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from lakehouse.loader.options import LoaderOptions
    from lakehouse.loader.ranks import Agree
    from lakehouse.loader.selection import Selection
    from lakehouse.snapshot import Snapshot

__all__ = ["Source"]


@dataclass(frozen=True, eq=False)
class Source:
    """A version of a table, the rows chosen of it, and what becomes of them.

    Parameters
    ----------
    lake, table, version
        Where it lies.
    columns
        What is read and what each column becomes.
    selection
        The rows.
    options
        The order, and what is done to a row.
    """

    lake: Location
    table: str
    version: int
    columns: tuple[Column, ...]
    selection: Selection
    options: LoaderOptions

    @classmethod
    def of(cls, snapshot: Snapshot, options: LoaderOptions, agree: Agree | None = None) -> Source:
        """Select the rows of a version; `agree` lets the ranks find one version and selection first."""
        columns = _columns(snapshot, options)
        # Pictures are not asked: Lance reads all their bytes to find the NULLs (321 MB of 321 MB, 14.0.2).
        numbers = [c.name for c in columns if c.form not in (Form.VALUES, Form.IMAGES) and c.name != ROW_ID]

        def selected(version: Snapshot) -> Selection:
            return select(version, options.where, without_nulls=numbers if options.on_missing == "skip" else ())

        snapshot, selection = agree(snapshot, selected) if agree else (snapshot, selected(snapshot))
        source = cls(snapshot.lake, snapshot.name, snapshot.version, columns, selection, options)
        source.__dict__["snapshot"] = snapshot  # what `snapshot` would open again
        return source

    @cached_property
    def snapshot(self) -> Snapshot:
        """The version, opened in this process."""
        return open_snapshot(self.lake, self.table, self.version)

    def pin(self) -> None:
        """Keep the version from clean-up as long as this object lives.

        Raises
        ------
        VersionNotFoundError
            It is gone already.
        """
        held = ExitStack()
        # On a handle of its own: Lance lends one to a single thread where tags are written.
        held.enter_context(pinned(open_snapshot(self.lake, self.table, self.version)))
        # The collector calls in whatever thread it finds itself, under whatever lock: nothing may be waited for there.
        weakref.finalize(self, _thread.start_new_thread, _let_go, (held,)).atexit = False
        _held.add(held)

    def at(self, version: int) -> Source:
        """Return the same choice of another version."""
        return Source.of(open_snapshot(self.lake, self.table, version), self.options)

    def plan(self, epoch: int, world_size: int) -> Plan:
        """Return the order of an epoch."""
        return Plan(
            self.selection.num_rows,
            self.options.batch_size * world_size,
            seed=self.options.seed,
            epoch=epoch,
            shuffle=self.options.order,
            drop_last=self.options.drop_last,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle for a worker: functions of a notebook go along, credentials come from the worker's environment."""
        import cloudpickle

        options = cloudpickle.dumps(self.options)
        return _reopened, (self.lake.uri, self.table, self.version, self.columns, self.selection, options)


_held: set[ExitStack] = set()


def _let_go(held: ExitStack) -> None:
    with suppress(LakehouseError):  # the table was dropped, say; nobody is there to hear it
        held.close()
    _held.discard(held)


@atexit.register
def _let_all_go() -> None:
    for held in list(_held):
        _let_go(held)


def _reopened(
    uri: str, table: str, version: int, columns: tuple[Column, ...], selection: Selection, options: bytes
) -> Source:
    import cloudpickle

    return Source(Location.of(uri), table, version, columns, selection, cloudpickle.loads(options))


def _columns(snapshot: Snapshot, options: LoaderOptions) -> tuple[Column, ...]:
    names = list(options.columns) if options.columns is not None else list(snapshot.schema.names)
    snapshot.columns([name for name in names if name != ROW_ID])
    return tuple(
        Column(ROW_ID, Form.NUMBERS) if name == ROW_ID else column_of(snapshot.schema.field(name)) for name in names
    )
