"""Ascending whole numbers in few bytes, each found by its place without reading the others.

Three forms, and the smallest is taken: runs of consecutive numbers, a bitmap, and numbers cut into low bits, stored as
they are, and high bits, which are a bitmap of their own. Of n numbers below u the last form takes about
``2.3 + log2(u / n)`` bits each, whatever they are; the first two are smaller where numbers stand together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Ascending", "Bitmap", "Numbers", "Packed", "Runs", "ascending_of", "encode"]

Numbers: TypeAlias = "npt.NDArray[np.int64]"
Words: TypeAlias = "npt.NDArray[np.uint64]"

_BLOCK = 8  # words between two entries of a bitmap's directory: one cache line, and an eighth of the bitmap
_MAX_WIDTH = 48


class Ascending(Protocol):
    """Strictly ascending numbers, not negative."""

    kind: ClassVar[str]

    def at(self, places: Numbers) -> Numbers:
        """Give the number at each place; int64, of the shape of `places`."""

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.int64] | Words]:
        """What it is made of, to be kept in a file; `ascending_of` takes it back."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of consecutive numbers.

    Parameters
    ----------
    starts
        The first number of each run; int64, shape ``(num_runs,)``.
    ends
        The place after the last number of each run; int64, shape ``(num_runs,)``.
    """

    kind: ClassVar[str] = "runs"
    starts: Numbers = field(repr=False)
    ends: Numbers = field(repr=False)

    @classmethod
    def of(cls, num: int, runs: Iterator[tuple[Numbers, Numbers]]) -> Runs:
        """Put together `num` numbers, given place and number of the first of each run."""
        none = np.empty(0, np.int64)
        places, starts = (np.concatenate(parts) for parts in zip((none, none), *runs, strict=True))
        return cls(starts, np.append(places[1:], num) if num else none)

    def at(self, places: Numbers) -> Numbers:
        """Give the number at each place."""
        run = np.searchsorted(self.ends, places, side="right")
        before = np.where(run > 0, self.ends[run - 1], 0)
        return self.starts[run] + (places - before)

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.int64] | Words]:
        """Starts and ends."""
        return {"starts": self.starts, "ends": self.ends}


@dataclass(frozen=True, eq=False)
class Bitmap:
    """One bit for each number there could be.

    Parameters
    ----------
    words
        The bits, lowest first; uint64, shape ``(8 * num_blocks,)``.
    before
        How many bits are set before each block; int64, shape ``(num_blocks,)``.

    References
    ----------
    Vigna, "Broadword Implementation of Rank/Select Queries" (WEA 2008).
    """

    kind: ClassVar[str] = "bitmap"
    words: Words = field(repr=False)
    before: Numbers = field(repr=False)

    @classmethod
    def of(cls, universe: int, pieces: Iterator[Numbers]) -> Bitmap:
        """Set the bits of ascending numbers below `universe`."""
        num_blocks = -(-universe // (64 * _BLOCK))
        words = np.zeros(num_blocks * _BLOCK, np.uint64)
        for numbers in pieces:
            _merge(words, numbers >> 6, np.uint64(1) << (numbers & 63).astype(np.uint64))
        counts = np.bitwise_count(words).reshape(-1, _BLOCK).sum(axis=1, dtype=np.int64)
        return cls(words, np.cumsum(counts) - counts)

    def at(self, places: Numbers) -> Numbers:
        """Give the number at each place: the block by its directory, then the word, the byte and the bit in it."""
        block = np.searchsorted(self.before, places, side="right") - 1
        words = self.words.reshape(-1, _BLOCK)[block]
        word, rest = _holding(words, places - self.before[block])
        eight = words[np.arange(len(words)), word].astype("<u8").view(np.uint8).reshape(-1, 8)
        byte, rest = _holding(eight, rest)
        bit = _BIT_AT[eight[np.arange(len(eight)), byte], rest]
        return (block * _BLOCK + word) * 64 + byte * 8 + bit

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.int64] | Words]:
        """Bits and directory."""
        return {"words": self.words, "before": self.before}


@dataclass(frozen=True, eq=False)
class Packed:
    """Numbers cut in two: the low bits one after the other, the high ones as distances in a bitmap.

    Parameters
    ----------
    width
        How many low bits there are.
    low
        The low bits of all numbers, without gaps; uint64, shape ``(num_words,)``, one word more than they fill.
    high
        The high bits of the number at place p, plus p: ascending, and dense enough for a bitmap.

    References
    ----------
    Elias, "Efficient Storage and Retrieval by Content and Address of Static Files" (JACM 1974); Fano (1971).
    """

    kind: ClassVar[str] = "packed"
    width: int
    low: Words = field(repr=False)
    high: Bitmap = field(repr=False)

    @classmethod
    def of(cls, width: int, num: int, universe: int, pieces: Callable[[], Iterator[Numbers]]) -> Packed:
        """Cut `num` ascending numbers below `universe`."""
        low = np.zeros(num * width // 64 + 2, np.uint64)
        for place, numbers in _placed(pieces()):
            first = (place + np.arange(len(numbers))) * width
            shift = (first & 63).astype(np.uint64)
            bits = numbers.astype(np.uint64) & np.uint64((1 << width) - 1)
            _merge(low, first >> 6, bits << shift)
            _merge(low, (first >> 6) + 1, bits >> np.uint64(1) >> (np.uint64(63) - shift))
        high = ((numbers >> width) + place + np.arange(len(numbers)) for place, numbers in _placed(pieces()))
        return cls(width, low, Bitmap.of((universe >> width) + num + 1, high))

    def at(self, places: Numbers) -> Numbers:
        """Give the number at each place."""
        first = places * self.width
        word, shift = first >> 6, (first & 63).astype(np.uint64)
        low = (self.low[word] >> shift) | (self.low[word + 1] << np.uint64(1) << (np.uint64(63) - shift))
        low &= np.uint64((1 << self.width) - 1)
        high: Numbers = (self.high.at(places) - places) << self.width
        high |= low.astype(np.int64)
        return high

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.int64] | Words]:
        """Width, low bits, and bits and directory of the high ones."""
        return {"width": np.array([self.width]), "low": self.low, **self.high.arrays}


def ascending_of(kind: str, arrays: Mapping[str, npt.NDArray[np.int64] | Words]) -> Ascending:
    """Put together what `Ascending.arrays` took apart."""
    if kind == Packed.kind:
        return Packed(int(arrays["width"][0]), arrays["low"], Bitmap(arrays["words"], arrays["before"]))  # type: ignore[arg-type]  # of the type they were kept with
    if kind == Runs.kind:
        return Runs(arrays["starts"], arrays["ends"])  # type: ignore[arg-type]  # as above
    return Bitmap(arrays["words"], arrays["before"])  # type: ignore[arg-type]  # as above


def encode(
    num: int,
    universe: int,
    num_runs: int,
    runs: Callable[[], Iterator[tuple[Numbers, Numbers]]],
    pieces: Callable[[], Iterator[Numbers]],
) -> Ascending:
    """Keep ascending numbers in the form that takes the fewest bytes.

    Parameters
    ----------
    num, universe, num_runs
        How many there are, below which number all of them are, and how often one does not follow the one before.
    runs, pieces
        Called for them in order, some at a time: place and number of the first of each run, or all numbers.
    """
    width = min(range(_MAX_WIDTH), key=lambda width: _packed_nbytes(width, num, universe))
    nbytes = {
        Runs.kind: 16.0 * num_runs,
        Bitmap.kind: _bitmap_nbytes(universe),
        Packed.kind: _packed_nbytes(width, num, universe),
    }
    kind = min(nbytes, key=lambda kind: nbytes[kind])
    if kind == Runs.kind:
        return Runs.of(num, runs())
    return Bitmap.of(universe, pieces()) if kind == Bitmap.kind else Packed.of(width, num, universe, pieces)


def _bitmap_nbytes(universe: int) -> float:
    return universe / 8 * (1 + 1 / _BLOCK)


def _packed_nbytes(width: int, num: int, universe: int) -> float:
    return num * width / 8 + _bitmap_nbytes((universe >> width) + num)


def _placed(pieces: Iterator[Numbers]) -> Iterator[tuple[int, Numbers]]:
    place = 0
    for numbers in pieces:
        yield place, numbers
        place += len(numbers)


def _merge(words: Words, at: Numbers, bits: Words) -> None:
    """Set bits in words; several of `at`, which ascends, may be of one word."""
    first = np.flatnonzero(np.diff(at, prepend=-1))
    words[at[first]] |= np.bitwise_or.reduceat(bits, first)


def _holding(parts: npt.NDArray[np.unsignedinteger], rest: Numbers) -> tuple[Numbers, Numbers]:
    """Find in each row of parts the one with its rest-th set bit, and how many set bits of that one come before."""
    until = np.bitwise_count(parts).cumsum(axis=1, dtype=np.int64)
    part = (until <= rest[:, None]).sum(axis=1)
    rows = np.arange(len(parts))
    return part, rest - np.where(part > 0, until[rows, part - 1], 0)


# Where the n-th set bit of a byte stands; where there are fewer, what is there is never asked for.
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_BIT_AT = np.argsort(1 - _BITS, axis=1, kind="stable").astype(np.int64)
