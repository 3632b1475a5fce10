"""How well an order mixes labels: what to expect of it, and what was found.

The order of a shuffled epoch is judged by what it does to a table that is sorted by label, the worst there is: a
batch of neighbours holds one label, a batch of a good shuffle holds them as a random draw does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["expected_label_entropy", "label_entropy"]


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
