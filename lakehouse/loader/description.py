"""What an order costs and how well it mixes, told before a row is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader.forms.footprint import most_nbytes
from lakehouse.loader.order.blocks import HELD
from lakehouse.loader.order.plan import ORDER_VERSION
from lakehouse.loader.order.quality import expected_label_entropy, label_entropy
from lakehouse.units import format_nbytes

if TYPE_CHECKING:
    from lakehouse.loader.order.blocks import Blocks
    from lakehouse.loader.order.plan import DropLast, Plan, Shuffle
    from lakehouse.loader.source import Source

__all__ = ["Description", "describe"]

_LABELS = 100
_BATCHES = 32
_SPOTS = 4096
_WORTHWHILE = 10  # rows of a block, and blocks


@dataclass(frozen=True)
class Description:
    """An epoch of a loader, predicted.

    Parameters
    ----------
    table, uri, version, selection
        What is read: the table, where it lies, its version, and a digest of the rows selected.
    num_rows, num_left_out, readiness
        Rows of an epoch; rows that match `where` but were left out because of what they miss; and what was found of
        the features that are needed.
    shuffle, order_version, blocks, reason
        The order, the release of it, how the block order cuts the rows, and why it is this one.
    global_batch_size, world_size, num_batches, num_dropped, drop_last
        Rows of a batch over all ranks; ranks; batches of this rank in an epoch; rows of an epoch that stand in no
        batch.
    num_reads, nbytes_read
        Runs of consecutive rows that all ranks together ask storage for in an epoch, and their bytes as stored.
    nbytes_held
        Bytes, as stored, of the rows that this rank mixes at once; decoded batches come on top.
    nbytes_kept
        Bytes, as stored, of the rows that this rank reads in the first epoch, once and in order, and keeps in memory
        for all; 0 where rows are read when their batch comes.
    num_places, num_places_of_exact
        Places of the table, each as large as a block, that the rows of a global batch come from; and how many they
        would come from if every order were as likely as every other.
    label_entropy, label_entropy_of_exact
        Bits of the labels of a global batch if the table were sorted by one of 100 labels.
    plan_nbytes
        Memory that the order takes, whatever the number of rows.
    """

    table: str
    uri: str
    version: int
    selection: str
    num_rows: int
    num_left_out: int
    readiness: str
    shuffle: Shuffle
    order_version: int
    blocks: Blocks | None
    reason: str
    global_batch_size: int
    world_size: int
    num_batches: int
    num_dropped: int
    drop_last: DropLast
    num_reads: int
    nbytes_read: int
    nbytes_held: int
    nbytes_kept: int
    num_places: int
    num_places_of_exact: int
    label_entropy: float
    label_entropy_of_exact: float
    plan_nbytes: int = 0

    def __str__(self) -> str:
        blocks = f", blocks of {self.blocks.num_rows:,} rows, {self.blocks.num_taken:,} a batch" if self.blocks else ""
        lines = {
            "rows": f"{self.num_rows:,} of {self.uri}@{self.version}, selection {self.selection[:8]}"
            + (f", {self.num_left_out:,} more left out for what they miss" if self.num_left_out else ""),
            "ready": self.readiness,
            "batches": f"{self.num_batches:,} of {self.global_batch_size:,} rows, {self._ranks()}, {self._last()}",
            "order": f"{self.shuffle} (version {self.order_version}{blocks}): {self.reason}",
            "reads": f"{self.num_reads:,} runs of rows and {format_nbytes(self.nbytes_read)} an epoch",
            "memory": f"{format_nbytes(self.nbytes_held)} of rows on a rank"
            + (", kept for all epochs" if self.nbytes_kept else "")
            + f", {self.plan_nbytes} bytes for the order",
            "mixing": f"batches from {self.num_places:,} places of the table ({self.num_places_of_exact:,} at random); "
            f"of {_LABELS} labels that lie together {self.label_entropy:.2f} bits ({self.label_entropy_of_exact:.2f})",
        }
        told = [f"{name:8} {line}" for name, line in lines.items() if line]
        return "\n".join([f"An epoch of {self.table!r} as it will be, told before a row of it is read", *told])

    def _ranks(self) -> str:
        return "1 rank" if self.world_size == 1 else f"{self.world_size:,} ranks"

    def _last(self) -> str:
        if self.drop_last is True:
            return f"the last {self.num_dropped:,} rows of each epoch dropped"
        return "the last one uneven" if self.drop_last == "uneven" else "the last one kept"


def describe(source: Source, plan: Plan, rank: int, world_size: int) -> Description:
    """Predict an epoch of a rank."""
    # Sequences of tokens are cut from all documents.
    num_rows = source.selection.num_rows if source.options.packing else plan.num_rows - plan.num_dropped
    held = plan.block_order.generation if plan.blocks else 1
    share = plan.global_batch_size // world_size * source.row_nbytes
    kept = _kept_nbytes(source, plan, rank, world_size)
    return Description(
        table=source.table,
        uri=source.snapshot.uri,
        version=source.version,
        selection=source.digest,
        num_rows=plan.num_rows,
        num_left_out=source.num_left_out,
        readiness=str(source.readiness or ""),
        shuffle=plan.shuffle,
        order_version=ORDER_VERSION,
        blocks=plan.blocks,
        reason=_reason(source, plan, world_size),
        global_batch_size=plan.global_batch_size,
        world_size=world_size,
        num_batches=plan.num_batches(rank, world_size),
        num_dropped=plan.num_dropped,
        drop_last=plan.drop_last,
        num_reads=world_size * _runs(source, kept) if kept else _num_reads(source, plan, world_size, num_rows),
        nbytes_read=world_size * kept or round(num_rows * source.row_nbytes),
        nbytes_kept=kept,
        nbytes_held=kept
        or round(min(HELD * max(held * share, most_nbytes(source.snapshot)), plan.num_rows * source.row_nbytes)),
        num_places=_places(plan),
        num_places_of_exact=round(_places_at_random(plan)),
        label_entropy=_entropy(plan),
        label_entropy_of_exact=_entropy_at_random(plan),
    )


def _kept_nbytes(source: Source, plan: Plan, rank: int, world_size: int) -> int:
    if not source.keeps(plan.num_batches(rank, world_size) * source.options.batch_size):
        return 0
    return round(max(source.options.num_workers, 1) * source.selection.num_rows * source.row_nbytes)


def _runs(source: Source, nbytes: int) -> int:
    return round(_broken(source, nbytes / most_nbytes(source.snapshot), source.selection.num_rows))


def _places(plan: Plan) -> int:
    if plan.shuffle == "none":
        return 1
    mixes_blocks = plan.blocks and plan.block_order.num_generations
    return plan.block_order.blocks_at_once if mixes_blocks else min(plan.global_batch_size, plan.num_rows)


def _places_at_random(plan: Plan) -> float:
    drawn = min(plan.global_batch_size, plan.num_rows)
    if plan.blocks is None or not plan.block_order.num_generations:
        return drawn
    places = plan.num_rows // plan.blocks.num_rows
    return float(-places * np.expm1(drawn * np.log1p(-1 / places))) if places > 1 else 1.0


def _entropy(plan: Plan) -> float:
    """Work out some batches, spread over the epoch: the mean bits of their labels, were the table sorted by them."""
    last = plan.num_rows // plan.global_batch_size - 1
    steps = np.unique(np.linspace(0, last, _BATCHES).astype(np.int64)).tolist() if last >= 0 else []
    labels = [plan.rows(plan.positions(step)) * (_LABELS / plan.num_rows) for step in steps]
    return label_entropy(np.concatenate(labels).astype(np.int64), plan.global_batch_size) if labels else 0.0


def _entropy_at_random(plan: Plan) -> float:
    each, more = divmod(plan.num_rows, _LABELS)
    counts = [each + 1] * more + [each] * (_LABELS - more)
    return expected_label_entropy([c for c in counts if c], plan.global_batch_size) if plan else 0.0


def _reason(source: Source, plan: Plan, world_size: int) -> str:
    if plan.shuffle == "none":
        return "as the rows stand in the table"
    if plan.blocks is None:
        return f"every order is as likely as every other{_cheaper(source, plan, world_size)}"
    order = plan.block_order
    if source.blocks_that_fit(world_size) != plan.blocks:
        return f"{order.blocks_at_once:,} blocks at once, as in the state that was loaded"
    if not order.num_generations:
        return "all rows fit into the memory, so they are permuted one by one"
    memory, block = source.options.shuffle_nbytes, round(plan.blocks.num_rows * source.row_nbytes)
    return (
        f"a shuffle_memory of {format_nbytes(memory)} mixes {order.blocks_at_once:,} blocks of {format_nbytes(block)} "
        "at once"
    )


def _cheaper(source: Source, plan: Plan, world_size: int) -> str:
    """Name the other order where it would save nine reads of ten."""
    try:
        blocks = source.blocks_that_fit(world_size)
    except InvalidArgumentError:  # its memory does not hold such batches
        return ""
    num_reads = plan.num_rows // blocks.num_rows
    if blocks.num_rows < _WORTHWHILE or num_reads < _WORTHWHILE:
        return ""
    return f"; shuffle='block' would read {num_reads:,} runs of {blocks.num_rows:,} rows"


def _num_reads(source: Source, plan: Plan, world_size: int, num_rows: int) -> int:
    """Count where the rows that are read together are neighbours, on average."""
    if plan.shuffle == "exact":
        return num_rows
    if plan.blocks is None:
        together = (
            num_rows * source.row_nbytes / most_nbytes(source.snapshot) if world_size == 1 else len(plan) * world_size
        )
        return round(_broken(source, together, num_rows))
    order = plan.block_order
    sharing = min(max(source.options.num_workers, 1), order.generation)
    if not order.num_generations:  # the first batch, and then all others in one go, each rank and worker its share
        first = min(plan.global_batch_size, num_rows)
        shares = ((first, world_size), (num_rows - first, world_size * sharing))
        runs = sum(rows * (1 - rows / (plan.num_rows * readers)) for rows, readers in shares if rows)
        return round(_broken(source, runs, num_rows))
    in_blocks = order.num_generations * order.generation * order.global_batch_size
    share = order.global_batch_size // world_size
    cut = sum(share * rank % plan.blocks.num_taken > 0 for rank in range(1, world_size))
    blocks = in_blocks / plan.blocks.num_rows + order.num_generations * cut
    rest = max(num_rows - in_blocks, 0)
    runs = blocks + in_blocks * (1 - 1 / sharing)
    runs += rest / plan.blocks.num_rows + rest * (1 - 1 / (world_size * sharing))
    runs += 2 * order.global_batch_size  # the first batch is read alone, and leaves holes
    return round(_broken(source, runs, num_rows))


def _broken(source: Source, runs: float, num_rows: int) -> float:
    """Add what a filter breaks: how often neighbours in the selection are none in the table, by a sample."""
    rows = source.selection
    if rows.num_rows <= 1:
        return min(runs, num_rows)
    firsts = np.unique(np.linspace(0, rows.num_rows - 2, _SPOTS).astype(np.int64))
    gaps = rows.row_ids(firsts + 1) - rows.row_ids(firsts)
    return min(max(runs, 1) + (num_rows - runs) * float(np.mean(gaps != 1)), num_rows)
