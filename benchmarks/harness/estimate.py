"""From per-round figures to one ratio and an interval (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUM_RESAMPLES = 10_000
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A median with its bootstrap 95 % interval; with one round the interval is that value."""

    value: float
    low: float
    high: float
    num_rounds: int

    def scaled(self, factor: float) -> Estimate:
        """Return the same in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.num_rounds)

    def __str__(self) -> str:
        return f"{short(self.value)} [{short(self.low)}, {short(self.high)}]"


def median(values: Sequence[float]) -> Estimate:
    """Estimate the median of one figure per round.

    Examples
    --------
    >>> median([2.0, 2.0, 2.0]).value
    2.0
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("an estimate needs one round at least")
    # One fixed seed: the same rounds give the same interval wherever the report is made.
    picks = np.random.default_rng(0).integers(0, sample.size, (_NUM_RESAMPLES, sample.size))
    tail = 100 * (1 - _CONFIDENCE) / 2
    low, high = np.percentile(np.median(sample[picks], axis=1), [tail, 100 - tail])
    return Estimate(float(np.median(sample)), float(low), float(high), sample.size)


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Estimate numerator ÷ denominator from figures paired by round.

    Examples
    --------
    >>> median_ratio([2.0, 6.0, 4.0], [1.0, 2.0, 2.0]).value
    2.0
    """
    pairs = zip(numerators, denominators, strict=True)
    return median([above / below if below else float("inf") for above, below in pairs])


def short(value: float) -> str:
    """Print three significant digits, one more just above 1 where overheads show, and all digits before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4g}" if 1 <= value < 2 else f"{value:.3g}"
