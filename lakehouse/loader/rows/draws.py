"""How often each row comes in an epoch: by a weight of its own, or so that each class comes equally often.

An epoch has a fixed number of draws. Those of fractions, and of classes, draw from shares of their own: of the sum of
all fractions, or of the rows of one class. Where in its share a draw falls is a hash of seed, epoch and draw, so that
nothing is stored but where the shares lie. A row gets its due on average, and within two draws of it in each epoch;
of a weight the whole part is met exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lakehouse.errors import DataError
from lakehouse.loader.order.permutation import derive_key, derive_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = ["Balanced", "Draws", "Weighted", "draws_of"]

_WEIGHTS, _CLASSES = 20, 21  # what the keys are for, see `permutation.derive_key`
_UNITS = 1 << 30  # in 1: what is kept of a fraction
_MOST_DRAWS = 1 << 53  # whole numbers up to there are told apart by a float64


class Draws(Protocol):
    """Which row of a selection each draw of an epoch is."""

    @property
    def num_draws(self) -> int:
        """Draws of an epoch, the same in each."""

    @property
    def arrays(self) -> dict[str, Integers]:
        """What it is made of, to be kept in a file; `draws_of` takes it back."""

    def ranks(self, draws: Integers, seed: int, epoch: int) -> Integers:
        """Give the rank in the selection of each draw; int64, of the shape of `draws`."""


@dataclass(frozen=True, eq=False)
class Weighted:
    """A row comes as often as its weight says: the whole part of it in each epoch, the fraction on average.

    Parameters
    ----------
    wholes
        The sum of the whole parts up to and with each row; int64, shape ``(num_rows,)``, empty if all are 0.
    parts
        The sum of the fractions, in units of 2**-30; int64, shape ``(num_rows,)``, empty if all are 0.
    """

    wholes: Integers = field(repr=False)
    parts: Integers = field(repr=False)

    @classmethod
    def of(cls, weights: npt.NDArray[np.float64], column: str) -> Weighted:
        """Add up weights.

        Parameters
        ----------
        weights
            One a row; float64, finite, not negative.
        column
            Where they come from, for messages.

        Raises
        ------
        DataError
            A weight is negative or not finite, or their sum is below one draw or beyond any epoch.
        """
        bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(bad):
            raise DataError(
                f"weights={column!r}: {len(bad):,} of {len(weights):,} rows have no weight of 0 or more, the first is "
                f"{'nan or NULL' if np.isnan(weights[bad[0]]) else weights[bad[0]]}; leave them out with where=…"
            )
        total = float(weights.sum())
        if len(weights) and not 0.5 < total < _MOST_DRAWS:
            raise DataError(
                f"weights={column!r} add up to {total:g}, and that is how many rows an epoch has: a weight says how "
                "often a row comes in each; scale them"
            )
        parts, wholes = np.modf(weights)
        return cls(_upto(wholes.astype(np.int64)), _upto(np.rint(parts * _UNITS).astype(np.int64)))

    @property
    def num_draws(self) -> int:
        """The sum of the weights, rounded."""
        return self._num_wholes + self._num_parts

    @property
    def _num_wholes(self) -> int:
        return int(self.wholes[-1]) if len(self.wholes) else 0

    @property
    def _num_parts(self) -> int:
        return (int(self.parts[-1]) + _UNITS // 2) // _UNITS if len(self.parts) else 0

    @property
    def arrays(self) -> dict[str, Integers]:
        """The sums."""
        return {"wholes": self.wholes, "parts": self.parts}

    def ranks(self, draws: Integers, seed: int, epoch: int) -> Integers:
        """Take each row's whole draws first; then cut the sum of the fractions into equal shares, a draw in each."""
        found = np.searchsorted(self.wholes, draws, side="right")
        shares = draws[draws >= self._num_wholes] - self._num_wholes
        if len(shares):
            width, rest = divmod(int(self.parts[-1]), self._num_parts)
            within = _within(width + (shares < rest), shares, derive_key(seed, epoch, _WEIGHTS))
            units = shares * width + np.minimum(shares, rest) + within
            found[draws >= self._num_wholes] = np.searchsorted(self.parts, units, side="right")
        return found


@dataclass(frozen=True, eq=False)
class Balanced:
    """Each class comes equally often, and the rows of a class evenly.

    Parameters
    ----------
    ends
        The rank after the last row of each class, in a selection ordered by class; int64, shape ``(num_classes,)``.
    """

    ends: Integers = field(repr=False)

    @property
    def num_draws(self) -> int:
        """As many of each class, and about as many as there are rows."""
        return len(self.ends) * self._each

    @property
    def _each(self) -> int:
        return max(1, round(int(self.ends[-1]) / len(self.ends))) if len(self.ends) else 0

    @property
    def arrays(self) -> dict[str, Integers]:
        """The ends."""
        return {"ends_of_classes": self.ends}

    def ranks(self, draws: Integers, seed: int, epoch: int) -> Integers:
        """Take the classes in turn; cut the rows of each into as many equal shares as it has draws."""
        turn, of_class = np.divmod(draws, max(len(self.ends), 1))
        sizes = np.diff(self.ends, prepend=0)[of_class]
        at = turn * sizes + _within(sizes, draws, derive_key(seed, epoch, _CLASSES))
        return self.ends[of_class] - sizes + at // max(self._each, 1)


def draws_of(arrays: Mapping[str, Integers]) -> Draws | None:
    """Put together what `Draws.arrays` took apart; None if there is nothing of the kind."""
    if "wholes" in arrays:
        return Weighted(arrays["wholes"], arrays["parts"])
    return Balanced(arrays["ends_of_classes"]) if "ends_of_classes" in arrays else None


def digest_of(draws: Draws, selection: str) -> str:
    """Hash what decides the draws, and the rows they are drawn from."""
    content = hashlib.sha256(selection.encode())
    for name, array in draws.arrays.items():
        content.update(name.encode())
        content.update(array.astype("<i8").tobytes())
    return content.hexdigest()[:32]


def _upto(numbers: Integers) -> Integers:
    return np.cumsum(numbers) if numbers.any() else np.empty(0, np.int64)


def _within(widths: Integers, draws: Integers, key: int) -> Integers:
    """Hash each draw to a whole number below the width of its share."""
    return (derive_keys(key, draws) % widths.astype(np.uint64)).astype(np.int64)
