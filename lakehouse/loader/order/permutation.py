"""Keyed permutations: which of ``[0, size)`` stands at a position, worked out for the positions asked for.

Frozen: the same key gives the same permutation in every release, NumPy version and machine.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["derive_key", "derive_keys", "permute"]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, the increment of SplitMix64
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # David Stafford's mix 13, as in SplitMix64
# Six rounds are visibly uneven over the permutations of 5 rows (chi² 2.3 per degree of freedom), eight are not.
_ROUNDS = 8
_TABLED = 14  # bits: tables of 1 MB and 0.3 ms for up to 268 M rows, which make a look-up of 256 rows ten times as fast


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


def derive_keys(key: int, words: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Hash one more integer into a key, for many integers at once.

    Parameters
    ----------
    key
        What `derive_key` gave for the words before.
    words
        int64, shape ``(n,)``.

    Returns
    -------
    numpy.ndarray
        uint64, shape ``(n,)``.
    """
    return _mix_all((np.uint64(key) + words.astype(np.uint64)) * np.uint64(_GOLDEN) + np.uint64(1))


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX_1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX_2) & _MASK
    return x ^ (x >> 31)


def _mix_all(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    return x ^ (x >> np.uint64(31))


def permute(positions: npt.NDArray[np.int64], size: int, key: int | npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
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
        Which permutation; uint64 of shape ``(n,)`` gives each position one of its own.

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
    if isinstance(key, int) and half <= _TABLED:
        return _looked_up(positions, size, half, _tables(key, half))
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    round_keys = _round_keys(key)
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
        if isinstance(key, np.ndarray):
            round_keys = round_keys[:, ~inside]
    return out


def _looked_up(
    positions: npt.NDArray[np.int64], size: int, half: int, tables: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Do the same by tables of what each round makes of a half."""
    out = _rounds(positions, half, tables)
    outside = np.flatnonzero(out >= size)
    while len(outside):
        again = out[outside] = _rounds(out[outside], half, tables)
        outside = outside[again >= size]
    return out


def _rounds(numbers: npt.NDArray[np.int64], half: int, tables: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    left, right = numbers >> half, numbers & ((1 << half) - 1)
    for table in tables:
        left, right = right, left ^ table[right]
    return (left << half) | right


@lru_cache(maxsize=4)
def _tables(key: int, half: int) -> npt.NDArray[np.int64]:
    """Give what each round adds to a half, by the other half; int64, shape ``(rounds, 2**half)``."""
    halves = np.arange(1 << half, dtype=np.uint64)
    mask = np.uint64((1 << half) - 1)
    return (_mix_all(np.add.outer(_round_keys(key), halves)) & mask).astype(np.int64)


def _round_keys(key: int | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    keys = np.uint64(key) if isinstance(key, int) else key
    steps = np.array([i * _GOLDEN & _MASK for i in range(1, _ROUNDS + 1)], np.uint64)
    return _mix_all(np.add.outer(steps, keys))
