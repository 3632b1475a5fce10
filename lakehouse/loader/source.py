"""What is read, in a form that another process can open: a place and a version, never a handle or a secret."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow.types as pat

from lakehouse import reads, types
from lakehouse.loader import threads
from lakehouse.loader.batches.epoch import Epoch
from lakehouse.loader.batches.kept import KEPT_NBYTES, Kept
from lakehouse.loader.batches.reader import Reader
from lakehouse.loader.batches.tokens import token_counts
from lakehouse.loader.chosen import chosen_columns
from lakehouse.loader.forms.columns import ROW_ID, Column, Form
from lakehouse.loader.forms.footprint import INDEX_NBYTES, most_rows, read_nbytes, row_nbytes
from lakehouse.loader.forms.packing import Documents
from lakehouse.loader.order.blocks import Blocks, fitting
from lakehouse.loader.order.plan import Plan
from lakehouse.loader.pinning import pin_while_alive
from lakehouse.loader.rows.asked import Asked
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from lakehouse.loader.batches.reader import Rows
    from lakehouse.loader.forms.arrays import Arrays
    from lakehouse.loader.options import LoaderOptions
    from lakehouse.loader.ranks import Agree
    from lakehouse.loader.rows.asked import Chosen
    from lakehouse.loader.rows.draws import Draws
    from lakehouse.loader.rows.readiness import Readiness
    from lakehouse.loader.rows.selection import Selection
    from lakehouse.loader.stats import Meter
    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

__all__ = ["Source"]

_WORTH_KEEPING = 8  # a row costs more than so many times as much by its id as in order


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
    blocks
        How the block order cuts the rows; None for the others, and until `ordered` has chosen.
    draws
        How often each row comes; None means once.
    digest
        A hash of the rows and of how often each comes.
    readiness
        What was found of the features that are needed, when the rows were chosen; None if none are.
    is_as_stored
        Whether the rows are known to be in the order of the table, each once.
    """

    lake: Location
    table: str
    version: int
    columns: tuple[Column, ...]
    selection: Selection
    options: LoaderOptions
    blocks: Blocks | None = None
    draws: Draws | None = None
    digest: str = ""
    readiness: Readiness | None = None
    is_as_stored: bool = False
    _kept: list[Kept | None] = field(default_factory=list, init=False, repr=False)  # None: they were found not to fit

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        options: LoaderOptions,
        agree: Agree | None = None,
        selection: Selection | None = None,
        *,
        remember: bool = False,
    ) -> Source:
        """Select the rows of a version; `agree` lets the ranks find one version and selection first.

        A `selection` made before is taken as it is. Who may write to the lake may `remember` what was read of its log.
        """
        columns = chosen_columns(snapshot, options)
        snapshot.columns([name for name in (options.weights, options.balance) if name is not None])
        asked = replace(Asked.of(columns, options), selection=selection, remember=remember)
        chosen = agree(snapshot, asked) if agree else asked.lead(snapshot)
        # One that was saved may have been drawn class by class.
        return cls._of(chosen, columns, options, is_as_stored=selection is None and chosen.draws is None)

    @classmethod
    def _of(cls, chosen: Chosen, columns: tuple[Column, ...], options: LoaderOptions, *, is_as_stored: bool) -> Source:
        snapshot = chosen.snapshot
        source = cls(
            snapshot.lake,
            snapshot.name,
            snapshot.version,
            columns,
            chosen.selection,
            options,
            draws=chosen.draws,
            digest=chosen.digest,
            readiness=chosen.readiness,
            is_as_stored=is_as_stored,
        )
        source.__dict__["snapshot"] = snapshot  # what `snapshot` would open again
        return source

    @cached_property
    def snapshot(self) -> Snapshot:
        """The version, opened in this process."""
        return open_snapshot(self.lake, self.table, self.version)

    @cached_property
    def num_positions(self) -> int:
        """Rows of an epoch, or sequences of tokens, as many in each."""
        packing, counts = self.options.packing, self._token_counts
        if packing is None or counts is None:
            return self.selection.num_rows if self.draws is None else self.draws.num_draws
        return int(counts.sum(dtype="int64")) // packing.sequence_length

    @cached_property
    def num_left_out(self) -> int:
        """Rows that match but were left out because of what they miss."""
        if self.options.on_missing != "skip":
            return 0
        return reads.count_rows(self.snapshot, self.options.where) - self.selection.num_rows

    def why_empty(self) -> str:
        """Say what leaves an epoch without rows."""
        if self.selection.num_rows:
            return "they hold fewer tokens than one sequence"
        if self.num_left_out:
            return f"on_missing='skip' leaves out the {self.num_left_out:,} that match"
        if self.options.where is None:
            return "the table is empty"
        return f"where={self.options.where!r} matches none of {self.snapshot.num_rows:,}"

    def documents(self, plan: Plan) -> Documents | None:
        """Return what the sequences of an epoch are cut from, where tokens are packed."""
        packing, counts = self.options.packing, self._token_counts
        if packing is None or counts is None:
            return None
        return Documents(packing, counts, replace(plan, num_rows=self.selection.num_rows).rows)

    @cached_property
    def _token_counts(self) -> npt.NDArray[np.uint32] | None:
        packing = self.options.packing
        return None if packing is None else token_counts(self.snapshot, self.selection, packing)

    def ranks(self, rows: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int64]:
        """Give the rank in the selection of each row of an epoch."""
        return rows if self.draws is None else self.draws.ranks(rows, self.options.seed, epoch)

    @cached_property
    def is_whole_table(self) -> bool:
        """Whether a row's rank is where it stands in the table, and no column of it is large."""
        return self.is_as_stored and self._is_small and self.selection.num_rows == self.snapshot.num_rows

    @cached_property
    def _is_small(self) -> bool:
        return all(column.name == ROW_ID or _is_small(column, self.snapshot) for column in self.columns)

    def keeps(self, num_rows: int) -> bool:
        """Whether a process that so many rows of an epoch are for keeps all rows in memory, as told by the footers."""
        if self.options.order != "exact" or self.options.packing is not None or not self._is_small:
            return False
        num_processes = max(threads.num_workers(), self.options.num_workers)
        num_in_all = self.selection.num_rows
        return (
            num_rows * _WORTH_KEEPING >= num_in_all and 0 < self.row_nbytes * num_in_all * num_processes <= KEPT_NBYTES
        )

    def kept(self, num_rows: int, meter: Meter) -> Kept | None:
        """Give all rows from memory, where so many of them that are still to come are worth it."""
        if not self._kept:
            if not self.keeps(num_rows):
                return None
            reader = Reader(self.snapshot, self.columns, self._rows_of, meter)
            together = most_rows(self.snapshot, self.row_nbytes)
            kept = Kept.read(reader, self.columns, self.selection.num_rows, together)
            meter.add(nbytes_kept=kept.nbytes if kept else 0)
            self._kept.append(kept)
        return self._kept[0]

    def _rows_of(self, batches: Sequence[npt.NDArray[np.int64]]) -> list[Rows]:
        if self.is_whole_table:
            return [range(int(batch[0]), int(batch[-1]) + 1) for batch in batches]
        return [self.selection.row_ids(batch) for batch in batches]

    def part(self, plan: Plan, rank: int, world_size: int, arrays: Arrays, meter: Meter) -> Epoch:
        """Return the batches of one rank in one epoch."""
        return Epoch(self, plan, rank, world_size, arrays, meter)

    def pin(self) -> None:
        """Keep the version from clean-up as long as this object lives.

        Raises
        ------
        VersionNotFoundError
            It is gone already.
        """
        pin_while_alive(self, open_snapshot(self.lake, self.table, self.version))

    def at(self, version: int, digest: str) -> Source:
        """Return the same choice of another version, of the rows with this digest if they can be found."""
        snapshot = open_snapshot(self.lake, self.table, version)
        columns = chosen_columns(snapshot, self.options)
        chosen = Asked.of(columns, self.options).again(snapshot, digest)
        return Source._of(chosen, columns, self.options, is_as_stored=chosen.draws is None)

    def ordered(self, world_size: int) -> Source:
        """Choose the blocks, if the order has any and they are not chosen, by what a row weighs and the memory.

        Raises
        ------
        InvalidArgumentError
            There is too little of it.
        """
        if self.options.order != "block" or self.blocks is not None:
            return self
        return self.with_blocks(self.blocks_that_fit(world_size))

    def blocks_that_fit(self, world_size: int) -> Blocks:
        """Return the blocks that `ordered` chooses."""
        nbytes = self.row_nbytes + INDEX_NBYTES
        num_rows = max(self.num_positions, self.selection.num_rows)  # sequences may be fewer than their documents
        batch = self.options.batch_size * world_size
        return fitting(num_rows, batch, nbytes, self.options.shuffle_nbytes, read_nbytes(self.snapshot))

    def with_blocks(self, blocks: Blocks | None) -> Source:
        """Return this with other blocks."""
        other = replace(self, blocks=blocks)
        other.__dict__["snapshot"] = self.snapshot
        return other

    @cached_property
    def row_nbytes(self) -> float:
        """Bytes of a row in memory, as it is stored."""
        return row_nbytes(self.snapshot, self.columns)

    def plan(self, epoch: int, world_size: int) -> Plan:
        """Return the order of an epoch."""
        return Plan(
            self.num_positions,
            self.options.batch_size * world_size,
            seed=self.options.seed,
            epoch=epoch,
            shuffle=self.options.order,
            drop_last=self.options.drop_last,
            blocks=self.blocks,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle for a worker: functions of a notebook go along, and credentials into new processes only."""
        import cloudpickle

        given = [each.name for each in fields(self) if each.init and each.name not in ("lake", "options")]
        rest = {name: getattr(self, name) for name in given}
        return _reopened, (self.lake.to_pickle(), cloudpickle.dumps(self.options), rest)


def _reopened(lake: Location, options: bytes, rest: dict[str, Any]) -> Source:
    import cloudpickle

    return Source(lake=lake, options=cloudpickle.loads(options), **rest)


def _is_small(column: Column, snapshot: Snapshot) -> bool:
    """Whether a column is read by Lance: pictures, videos and bytes may be read by their place in the file."""
    if column.form is not Form.VALUES:
        return column.form not in (Form.IMAGES, Form.CLIPS)
    field = snapshot.schema.field(column.name)
    return not (types.is_blob(field) or pat.is_binary(field.type) or pat.is_large_binary(field.type))
