"""What numbers are handed out as: NumPy arrays, or torch tensors where torch is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lakehouse.loader.forms.room import room_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["Arrays", "NumpyArrays", "arrays_of_this_installation"]


class Arrays(Protocol):
    """The kind of array in a batch."""

    name: str

    def wrap(self, array: npt.NDArray[Any]) -> Any:
        """Hand out an array without a copy."""

    def is_array(self, value: Any) -> bool:
        """Whether a transform's value can be stacked."""

    def stack(self, values: Sequence[Any]) -> Any:
        """Put arrays of one shape on a new first axis."""

    def join(self, values: Sequence[Any], order: npt.NDArray[np.int64]) -> Any:
        """Put arrays one behind the other, and the rows of it all in an order."""


class NumpyArrays:
    """NumPy arrays as they are."""

    name = "numpy"

    def wrap(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array."""
        return array

    def is_array(self, value: Any) -> bool:
        """Whether it is an array."""
        return isinstance(value, np.ndarray)

    def stack(self, values: Sequence[Any]) -> npt.NDArray[Any]:
        """Stack arrays of one shape."""
        if any(type(value) is not np.ndarray or value.dtype != values[0].dtype for value in values):
            return np.stack(values)
        return np.stack(values, out=room_for(values[0], len(values)))

    def join(self, values: Sequence[Any], order: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Put arrays one behind the other, and the rows of it all in an order."""
        return np.concatenate(values)[order]


def arrays_of_this_installation() -> Arrays:
    """Choose torch where it is installed; it is looked for, not imported."""
    if find_spec("torch") is None:
        return NumpyArrays()
    from lakehouse.loader.forms.torch import TorchArrays

    return TorchArrays()
