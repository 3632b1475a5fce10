"""In which order: a pure function from a position in an epoch to a row of the selection.

Nothing is stored and nothing is drawn. A global shuffle is a keyed permutation of ``[0, num_rows)`` that is worked
out for the positions asked for, so a rank, a worker or a resumed job needs four integers to agree with all others.

The order is frozen: the same seed and epoch give the same rows in every release, NumPy version and machine
(`tests/test_loader_plan.py` holds golden vectors). A better permutation gets a new `ORDER_VERSION`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lakehouse.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ORDER_VERSION", "Plan", "Shuffle", "derive_key", "permute"]

ORDER_VERSION = 1
Shuffle = Literal["exact", "none"]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, the increment of SplitMix64
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # David Stafford's mix 13, as in SplitMix64
# Six rounds are visibly uneven over the permutations of 5 rows (chi² 2.3 per degree of freedom), eight are not.
_ROUNDS = 8


def derive_key(*words: int) -> int:
    """Hash integers into one 64-bit key.

    Parameters
    ----------
    words
        The seed, the epoch and what the key is for, in this order.
    """
    key = _GOLDEN
    for word in words:
        key = _mix(((key + word) * _GOLDEN + 1) & _MASK)
    return key


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def _mix_all(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return x ^ (x >> np.uint64(31))


def permute(positions: npt.NDArray[np.int64], size: int, key: int) -> npt.NDArray[np.int64]:
    """Map each of ``[0, size)`` to another one, each exactly once.

    A Feistel network over the next even number of bits; what falls outside of the range is sent through again until
    it falls inside ("cycle walking"), four times at most on average.

    Parameters
    ----------
    positions
        int64, shape ``(n,)``, each in ``[0, size)``.
    size
        How many there are in all, below 2**62.
    key
        Which permutation.

    Returns
    -------
    numpy.ndarray
        int64, shape ``(n,)``, each in ``[0, size)``.

    References
    ----------
    Black and Rogaway, "Ciphers with Arbitrary Finite Domains" (CT-RSA 2002), for cycle walking; Steele, Lea and
    Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014), for the round keys and the mixer.
    """
    half = (max((size - 1).bit_length(), 2) + 1) // 2
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    round_keys = [np.uint64(_mix((key + i * _GOLDEN) & _MASK)) for i in range(1, _ROUNDS + 1)]
    out = np.empty(len(positions), np.int64)
    where = np.arange(len(positions))
    current = positions.astype(np.uint64)
    while len(current):
        left, right = current >> shift, current & mask
        for round_key in round_keys:
            left, right = right, left ^ (_mix_all(right + round_key) & mask)
        current = (left << shift) | right
        inside = current < np.uint64(size)
        out[where[inside]] = current[inside].astype(np.int64)
        where, current = where[~inside], current[~inside]
    return out


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
        ``"exact"``: every order is as likely as every other; ``"none"``: the order of the selection.
    drop_last
        Whether an incomplete last batch is left out.
    """

    num_rows: int
    global_batch_size: int
    seed: int = 0
    epoch: int = 0
    shuffle: Shuffle = "exact"
    drop_last: bool = True

    def __len__(self) -> int:
        """Batches of the epoch, the same on every rank."""
        whole, rest = divmod(self.num_rows, self.global_batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def positions(self, step: int, rank: int = 0, world_size: int = 1) -> npt.NDArray[np.int64]:
        """Give the positions a rank takes at a step.

        An incomplete last batch is cut into equal parts; positions of `num_rows` and more fill them up and stand for
        repeats from the start of the epoch, as in PyTorch's ``DistributedSampler``.

        Returns
        -------
        numpy.ndarray
            int64, shape ``(rows,)``.
        """
        check_divides(self.global_batch_size, world_size)
        first = step * self.global_batch_size
        size = min(self.global_batch_size, self.num_rows - first)
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
        return permute(positions, self.num_rows, derive_key(self.seed, self.epoch, 1))


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
