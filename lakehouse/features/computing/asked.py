"""Which rows of a fragment each feature of a pass wants computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

__all__ = ["Asked", "Rows"]

Rows = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]
"""Row ids and physical offsets within the fragment, both of shape ``(num_rows,)``, ascending by offset."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Rows of one fragment, read once for all features that want some of them.

    Parameters
    ----------
    row_ids
        uint64, shape ``(num_rows,)``.
    offsets
        Physical offsets within the fragment, int64, shape ``(num_rows,)``, ascending.
    masks
        By the feature's token, which of the rows it wants: bool, shape ``(num_rows,)``; None for all of them.
    """

    row_ids: npt.NDArray[np.uint64] = field(repr=False)
    offsets: npt.NDArray[np.int64] = field(repr=False)
    masks: Mapping[str, npt.NDArray[np.bool_] | None]

    @classmethod
    def of(cls, wanted: Mapping[str, Rows]) -> Asked:
        """Put together what several features want; those that want nothing are left out."""
        wanted = {token: rows for token, rows in wanted.items() if len(rows[0])}
        if not wanted:
            return cls(np.empty(0, np.uint64), np.empty(0, np.int64), {})
        first, *others = wanted.values()
        if all(np.array_equal(first[1], offsets) for _, offsets in others):
            return cls(*first, dict.fromkeys(wanted))
        offsets = reduce(np.union1d, (offsets for _, offsets in wanted.values()))
        row_ids = np.empty(len(offsets), np.uint64)
        masks = {}
        for token, rows in wanted.items():
            masks[token] = mask = np.isin(offsets, rows[1])
            row_ids[mask] = rows[0]
        return cls(row_ids, offsets, masks)

    @property
    def num_rows(self) -> int:
        """How many rows have to be read."""
        return len(self.row_ids)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The features that want some of them."""
        return tuple(self.masks)

    def rows(self, token: str) -> Rows:
        """Return what one feature wants."""
        mask = self.masks[token]
        return (self.row_ids, self.offsets) if mask is None else (self.row_ids[mask], self.offsets[mask])

    def only(self, rows: Any) -> Asked:
        """Return some of the rows, a slice or a mask, with the features that want any of those."""
        masks = {token: None if mask is None else mask[rows] for token, mask in self.masks.items()}
        some = {token: mask for token, mask in masks.items() if mask is None or mask.any()}
        return Asked(self.row_ids[rows], self.offsets[rows], some)

    def without(self, tokens: AbstractSet[str]) -> Asked:
        """Return what is asked for by other features than these."""
        return self if not tokens & self.masks.keys() else self._of(t for t in self.tokens if t not in tokens)

    def apart(self) -> list[Asked]:
        """Return what each feature wants by itself."""
        return [self._of([token]) for token in self.tokens]

    def _of(self, tokens: Iterable[str]) -> Asked:
        return Asked.of({token: self.rows(token) for token in tokens})
