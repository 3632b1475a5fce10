"""How well an order mixes: what to expect of it, and what was found.

The order of a shuffled epoch is judged by what it does to a table that is sorted by label, the worst there is: a
batch of neighbours holds one label, a batch of a good shuffle holds them as a random draw does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

__all__ = ["chi_square", "expected_label_entropy", "label_entropy", "serial_correlation"]


def label_entropy(labels: npt.ArrayLike, batch_size: int) -> float:
    """Measure the mean entropy of the labels of a batch, in bits.

    Parameters
    ----------
    labels
        The label of each row in the order in which the rows came; integers of 0 or more, shape ``(num_rows,)``.
    batch_size
        Rows of a batch; an incomplete last one is left out.

    Examples
    --------
    >>> label_entropy([0, 0, 1, 1], 2), label_entropy([0, 1, 0, 1], 2)
    (0.0, 1.0)
    """
    labels = np.asarray(labels)
    batches = labels[: len(labels) // batch_size * batch_size].reshape(-1, batch_size)
    return float(np.mean([_bits(np.bincount(batch) / batch_size) for batch in batches])) if len(batches) else 0.0


def _bits(shares: npt.NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no -0.0


def expected_label_entropy(counts: npt.ArrayLike, batch_size: int) -> float:
    """Return the mean entropy of the labels of a batch if every order were as likely as every other, in bits.

    How often a label stands in a batch is then hypergeometric.

    Parameters
    ----------
    counts
        Rows of each label; shape ``(num_labels,)``.
    batch_size
        Rows of a batch.

    Examples
    --------
    >>> round(expected_label_entropy([4000] * 100, 256), 2)
    6.33
    """
    sizes, repeats = np.unique(np.asarray(counts, np.int64), return_counts=True)
    num_rows, drawn = int((sizes * repeats).sum()), batch_size
    total = 0.0
    for size, repeat in zip(sizes.tolist(), repeats.tolist(), strict=True):
        times = np.arange(max(0, drawn - (num_rows - size)), min(size, drawn) + 1, dtype=np.float64)
        here = times[:-1]
        ratios = (size - here) * (drawn - here) / ((here + 1) * (num_rows - size - drawn + here + 1))
        logs = np.concatenate(([0.0], np.cumsum(np.log(ratios))))
        chances = np.exp(logs - logs.max())
        shares = times[times > 0] / drawn
        total -= repeat * float((chances[times > 0] * shares * np.log2(shares)).sum() / chances.sum())
    return total + 0.0


def serial_correlation(order: npt.ArrayLike, lag: int = 1) -> float:
    """Return the correlation of the rows at positions that are `lag` apart, in ``[-1, 1]``.

    Of a random order it is 0, with a standard error of ``1 / sqrt(num_rows)``.

    Parameters
    ----------
    order
        The row at each position; shape ``(num_rows,)``.
    lag
        How many positions apart.
    """
    rows = np.asarray(order, np.float64)
    rows = rows - rows.mean()
    return float((rows[:-lag] * rows[lag:]).mean() / rows.var())


def chi_square(orders: Iterable[npt.ArrayLike], num_rows: int, num_bins: int) -> float:
    """Return chi² by degree of freedom of which part of the table comes in which part of an epoch.

    Of random orders it is 1, with a standard deviation of about ``sqrt(2) / (num_bins - 1)``.

    Parameters
    ----------
    orders
        The row at each position, epoch by epoch; each shape ``(num_positions,)``, in ``[0, num_rows)``.
    num_rows
        Rows of the table, 2 or more.
    num_bins
        Into how many parts table and epoch are cut, at most `num_rows`.
    """
    seen, expected = np.zeros((2, num_bins, num_bins))
    sizes = np.bincount(np.arange(num_rows) * num_bins // num_rows)
    for order in orders:
        rows = np.asarray(order, np.int64)
        when = np.arange(len(rows)) * num_bins // len(rows)
        np.add.at(seen, (when, rows * num_bins // num_rows), 1)
        expected += np.outer(np.bincount(when, minlength=num_bins), sizes / num_rows)
    # Each row comes once, so the counts vary a little less than independent ones.
    return float(((seen - expected) ** 2 / expected).sum() * (num_rows - 1) / num_rows / (num_bins - 1) ** 2)
