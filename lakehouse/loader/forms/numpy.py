"""What numbers are handed out as where torch is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.loader.forms.room import room_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["NumpyArrays", "is_numeric"]

_NUMERIC = "?bhilqBHILQefdFD"  # by their character: what both NumPy and torch compute with


class NumpyArrays:
    """NumPy arrays as they are."""

    name = "numpy"
    is_page_locked = False

    def wrap(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array."""
        return array

    def is_array(self, value: Any) -> bool:
        """Whether it is an array of numbers."""
        return isinstance(value, np.ndarray) and is_numeric(value)

    def stack(self, values: Sequence[Any]) -> npt.NDArray[Any]:
        """Stack arrays of one shape."""
        if any(type(value) is not np.ndarray or value.dtype != values[0].dtype for value in values):
            return np.stack(values)
        return np.stack(values, out=room_for(values[0], len(values)))

    def join(self, values: Sequence[Any], order: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Put arrays one behind the other, and the rows of it all in an order."""
        return np.concatenate(values)[order]

    def handed_out(self, batch: Any) -> Any:
        """Return the batch."""
        return batch


def is_numeric(array: npt.NDArray[Any]) -> bool:
    """Whether an array holds numbers, and not words, times or objects."""
    return array.dtype.char in _NUMERIC
