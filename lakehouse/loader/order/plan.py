"""In which order: a pure function from a position in an epoch to a row of the selection.

Nothing is stored and nothing is drawn. A global shuffle is a keyed permutation of ``[0, num_rows)`` that is worked
out for the positions asked for, so a rank, a worker or a resumed job needs four integers to agree with all others.

The order is frozen: the same seed and epoch give the same rows in every release, NumPy version and machine
(`tests/test_loader_plan.py` holds golden vectors). A better permutation gets a new `ORDER_VERSION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader.order.blocks import BlockOrder, Blocks
from lakehouse.loader.order.permutation import derive_key, permute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

__all__ = ["ORDER_VERSION", "DropLast", "Plan", "Shuffle", "check_divides"]

ORDER_VERSION = 1
Shuffle: TypeAlias = Literal["exact", "block", "none"]
DropLast: TypeAlias = Literal[True, False, "uneven"]


@dataclass(frozen=True)
class Plan:
    """One epoch: which row stands at which position, and which positions a rank takes at a step.

    Batch `step` of all ranks together is the positions ``[step * global_batch_size, (step + 1) *
    global_batch_size)``; each rank takes an equal run of them. Neither ranks nor workers enter the order.

    Parameters
    ----------
    num_rows
        Rows of the selection.
    global_batch_size
        Rows of a batch over all ranks.
    seed, epoch
        Which order; in ``[0, 2**63)``.
    shuffle
        ``"exact"``: every order is as likely as every other; ``"block"``: `BlockOrder`; ``"none"``: the order of the
        selection.
    drop_last
        What becomes of an incomplete last batch: True leaves it out; False fills it up with repeats where several
        ranks share it; ``"uneven"`` shares out what there is, so that the first ones have a row more than the
        others, or a batch.
    blocks
        How the block order cuts the rows; None for the others.
    """

    num_rows: int
    global_batch_size: int
    seed: int = 0
    epoch: int = 0
    shuffle: Shuffle = "exact"
    drop_last: DropLast = True
    blocks: Blocks | None = None

    def __len__(self) -> int:
        """Batches of the epoch over all ranks."""
        whole, rest = divmod(self.num_rows, self.global_batch_size)
        return whole + (rest > 0 and self.drop_last is not True)

    def num_batches(self, rank: int, world_size: int) -> int:
        """Batches of one rank: as many on each, unless the last one is uneven and too small for all of them."""
        last_is_empty = len(self) and not len(self.positions(len(self) - 1, rank, world_size))
        return len(self) - bool(last_is_empty)

    @property
    def num_dropped(self) -> int:
        """Rows of the selection that this epoch leaves out."""
        return self.num_rows % self.global_batch_size if self.drop_last is True else 0

    def positions(self, step: int, rank: int = 0, world_size: int = 1) -> npt.NDArray[np.int64]:
        """Give the positions a rank takes at a step.

        An incomplete last batch is cut into equal parts; positions of `num_rows` and more fill them up and stand for
        repeats from the start of the epoch, as in PyTorch's ``DistributedSampler``. Uneven, nothing fills them up.

        Returns
        -------
        numpy.ndarray
            int64, shape ``(rows,)``.
        """
        check_divides(self.global_batch_size, world_size)
        first = step * self.global_batch_size
        size = min(self.global_batch_size, self.num_rows - first)
        if self.drop_last == "uneven":
            share, more = divmod(size, world_size)
            first += rank * share + min(rank, more)
            return np.arange(first, first + share + (rank < more), dtype=np.int64)
        share = -(-size // world_size)
        return np.arange(first + rank * share, first + (rank + 1) * share, dtype=np.int64)

    def rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give the row of the selection that stands at each position.

        Parameters
        ----------
        positions
            int64, shape ``(n,)``, not negative; past the end they start again.

        Returns
        -------
        numpy.ndarray
            int64, shape ``(n,)``, each in ``[0, num_rows)``.
        """
        positions = positions % max(self.num_rows, 1)
        if self.shuffle == "none":
            return positions
        if self.shuffle == "block":
            return self.block_order.rows(positions)
        return permute(positions, self.num_rows, derive_key(self.seed, self.epoch, 1))

    @property
    def block_order(self) -> BlockOrder:
        """The block order of this epoch.

        Raises
        ------
        InvalidArgumentError
            It has none.
        """
        if self.blocks is None:
            raise InvalidArgumentError(f"an order of shuffle={self.shuffle!r} has no blocks; give blocks=Blocks(…)")
        return BlockOrder(self.num_rows, self.global_batch_size, self.blocks, self.seed, self.epoch)

    def groups(self, steps: Iterable[int]) -> Iterator[list[int]]:
        """Put steps together that are made of the same blocks, so that these are read once; the first one is alone.

        The first batch would wait for all the blocks of its generation, and it needs few rows of each.
        """
        steps = iter(steps)
        if self.shuffle != "block":
            yield from ([step] for step in steps)
            return
        yield from ([step] for step in islice(steps, 1))
        order = self.block_order
        for _, together in groupby(steps, lambda step: min(step // order.generation, order.num_generations)):
            yield list(together)


def check_divides(global_batch_size: int, world_size: int) -> None:
    """Refuse a global batch that the ranks cannot share equally.

    Raises
    ------
    InvalidArgumentError
        The world size does not divide the global batch size.
    """
    if global_batch_size % world_size:
        raise InvalidArgumentError(
            f"a global batch of {global_batch_size} rows cannot be cut into {world_size} equal parts; "
            f"choose a global batch size that is a multiple of {world_size}"
        )
