"""How well an order mixes rows that were sorted by label (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_BATCH = 256


def mixing(ids: npt.NDArray[np.int64], num_rows: int, num_labels: int) -> dict[str, float]:
    """Judge the first rows of an epoch by their ids, which count up with the label.

    Returns
    -------
    dict
        ``label_entropy_bits``: mean entropy of the labels in batches of 256, as a share of what a random draw of 256 has;
        ``chi2_per_df``: of the label counts among all rows judged, 1 for a random draw; ``serial_correlation``: of
        neighbouring ids, 0 for a random order and 1 for the order of the table.
    """
    labels = ids * num_labels // num_rows
    whole = labels[: len(labels) // _BATCH * _BATCH].reshape(-1, _BATCH)
    counts = np.bincount(labels, minlength=num_labels)
    expected = len(labels) / num_labels
    # Drawn without putting back, counts vary less: by the share of the rows that is still to come.
    still_to_come = 1 - min(len(labels), num_rows - 1) / num_rows
    chi2 = float(((counts - expected) ** 2 / expected).sum()) / (num_labels - 1)
    return {
        "label_entropy_share": float(np.mean([_entropy(batch, num_labels) for batch in whole]))
        / _drawn_entropy(num_labels),
        "chi2_per_df": chi2 / still_to_come,
        "serial_correlation": float(np.corrcoef(ids[:-1], ids[1:])[0, 1]),
    }


def _entropy(labels: npt.NDArray[np.int64], num_labels: int) -> float:
    shares = np.bincount(labels, minlength=num_labels) / len(labels)
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())


def _drawn_entropy(num_labels: int) -> float:
    rng = np.random.default_rng(0)
    return float(np.mean([_entropy(rng.integers(0, num_labels, _BATCH), num_labels) for _ in range(500)]))
