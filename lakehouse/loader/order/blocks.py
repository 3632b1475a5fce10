"""The block order: whole blocks of consecutive rows are read, and as many of them are mixed as the memory holds.

The rows are cut into blocks. A batch takes a few rows of each of many blocks, and so do the following batches until
these blocks are used up: a generation. Then come the next blocks, in an order that is a keyed permutation, as is the
order of the rows of each block. The blocks that do not fill a generation, and the rows that do not fill a block,
are permuted row by row at the end. Nothing is stored, and neither ranks nor workers enter the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader.order.permutation import derive_key, derive_keys, permute

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["HELD", "BlockOrder", "Blocks", "fitting"]

HELD = 3
"""Generations in memory at once: one is handed out, the next is read, and of the last one batches are under way."""

_MIXED = 16  # blocks in a batch at least: below, reads get shorter instead, for a shuffle that does not mix is none
_BLOCKS, _WITHIN, _REST, _SHIFT = 3, 4, 5, 6  # what keys are for; 1 is the exact order


@dataclass(frozen=True)
class Blocks:
    """How rows are cut into blocks.

    Parameters
    ----------
    num_rows
        Consecutive rows of a block.
    num_taken
        How many of them stand in one batch; divides both `num_rows` and the global batch size.

    Raises
    ------
    InvalidArgumentError
        One of them is no whole number of 1 or more.
    """

    num_rows: int
    num_taken: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if type(value) is not int or value < 1:
                raise InvalidArgumentError(f"{name} of a block is {value!r}; it is a whole number, 1 or more")


def fitting(num_rows: int, global_batch_size: int, row_nbytes: float, memory_nbytes: int, read_nbytes: int) -> Blocks:
    """Choose blocks that are worth a read, and mix as many at once as the memory holds.

    Parameters
    ----------
    num_rows
        Rows in all. What holds all of them needs to hold no more, however large a batch is.
    global_batch_size
        Rows of a batch over all ranks.
    row_nbytes
        Bytes of a row in memory.
    memory_nbytes
        What all ranks together may hold.
    read_nbytes
        Bytes from which a read costs no more by the byte.

    Raises
    ------
    InvalidArgumentError
        The memory holds neither the batches under way nor all rows.
    """
    batch_nbytes = global_batch_size * row_nbytes
    generation = int(memory_nbytes // (HELD * batch_nbytes))  # batches, at most
    if not generation and num_rows * row_nbytes <= memory_nbytes:
        return Blocks(max(num_rows, 1), 1)
    if not generation:
        needed = int(min(HELD * batch_nbytes, num_rows * row_nbytes)) + 1
        raise InvalidArgumentError(
            f"a shuffle_memory of {memory_nbytes:,} bytes holds neither {HELD} global batches of {global_batch_size:,} "
            f"rows of {row_nbytes:,.0f} bytes nor all {num_rows:,} rows; give it {needed:,} bytes or more, or take "
            "smaller batches"
        )
    wanted = max(1, round(read_nbytes / row_nbytes))
    least = min(_MIXED, global_batch_size)
    choices = [d for d in range(1, global_batch_size // least + 1) if global_batch_size % d == 0]
    taken = next((d for d in choices if -(-wanted // d) <= generation), choices[-1])
    return Blocks(min(-(-wanted // taken), generation) * taken, taken)


@dataclass(frozen=True)
class BlockOrder:
    """The block order of one epoch.

    Parameters
    ----------
    num_rows
        Rows in all.
    global_batch_size
        Rows of a batch over all ranks.
    blocks
        How they are cut.
    seed, epoch
        Which order.

    Raises
    ------
    InvalidArgumentError
        The rows taken of a block divide neither it nor the batch.
    """

    num_rows: int
    global_batch_size: int
    blocks: Blocks
    seed: int
    epoch: int

    def __post_init__(self) -> None:
        if self.global_batch_size % self.blocks.num_taken or self.blocks.num_rows % self.blocks.num_taken:
            raise InvalidArgumentError(
                f"batches of {self.global_batch_size} rows cannot take {self.blocks.num_taken} rows of each block of "
                f"{self.blocks.num_rows}; choose a number that divides both"
            )

    @property
    def blocks_at_once(self) -> int:
        """Blocks that each batch of a generation takes rows of."""
        return self.global_batch_size // self.blocks.num_taken

    @property
    def generation(self) -> int:
        """Batches that are made of the same blocks."""
        return self.blocks.num_rows // self.blocks.num_taken

    @property
    def num_generations(self) -> int:
        """Generations that are filled; the rows that are left are permuted one by one."""
        return self.num_rows // (self.generation * self.global_batch_size)

    def rows(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Give the row at each position; both int64, of shape ``(n,)``, in ``[0, num_rows)``."""
        in_blocks = positions < self.num_generations * self.generation * self.global_batch_size
        rows = np.empty_like(positions)
        rows[in_blocks] = self._of_blocks(positions[in_blocks])
        rows[~in_blocks] = self._of_the_rest(positions[~in_blocks])
        # Each epoch cuts elsewhere, or the same rows would be neighbours in every epoch.
        shift = derive_key(self.seed, self.epoch, _SHIFT) % self.blocks.num_rows
        return (rows + shift) % max(self.num_rows, 1)

    def _of_blocks(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        size, taken = self.blocks.num_rows, self.blocks.num_taken
        step, in_batch = np.divmod(positions, self.global_batch_size)
        generation, visit = np.divmod(step, self.generation)
        lane, i = np.divmod(in_batch, taken)
        block = self._block(generation * self.blocks_at_once + lane)
        keys = derive_keys(derive_key(self.seed, self.epoch, _WITHIN), block)
        return block * size + permute(visit * taken + i, size, keys)

    def _of_the_rest(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        size = self.blocks.num_rows
        used = self.num_generations * self.blocks_at_once
        whole = self.num_rows // size
        rest = self.num_rows - used * size
        row = permute(positions - used * size, rest, derive_key(self.seed, self.epoch, _REST))
        in_whole = row < (whole - used) * size
        out = row + used * size  # the rows behind the last whole block stay where they are
        block, within = np.divmod(row[in_whole], size)
        out[in_whole] = self._block(used + block) * size + within
        return out

    def _block(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return permute(positions, self.num_rows // self.blocks.num_rows, derive_key(self.seed, self.epoch, _BLOCKS))
