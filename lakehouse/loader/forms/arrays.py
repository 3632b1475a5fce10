"""What numbers are handed out as: NumPy arrays, or torch tensors where torch is installed."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from lakehouse._optional import require
from lakehouse.loader.forms.numpy import NumpyArrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

__all__ = ["Arrays", "arrays_of_this_installation"]

_logger = logging.getLogger("lakehouse")


class Arrays(Protocol):
    """The kind of array in a batch."""

    name: str

    @property
    def is_page_locked(self) -> bool:
        """Whether batches are handed out in memory that an accelerator copies from by itself."""

    def wrap(self, array: npt.NDArray[Any]) -> Any:
        """Hand out an array without a copy."""

    def is_array(self, value: Any) -> bool:
        """Whether a transform's value can be stacked: an array of numbers."""

    def stack(self, values: Sequence[Any]) -> Any:
        """Put arrays of one shape on a new first axis."""

    def join(self, values: Sequence[Any], order: npt.NDArray[np.int64]) -> Any:
        """Put arrays one behind the other, and the rows of it all in an order."""

    def handed_out(self, batch: Any) -> Any:
        """Give a batch as it is handed out, page-locked if that was asked for."""


def arrays_of_this_installation(*, pin_memory: bool = False) -> Arrays:
    """Choose torch where it is installed; it is looked for, not imported unless memory is to be page-locked.

    Raises
    ------
    MissingDependencyError
        That is asked for, and torch is not installed.
    """
    if find_spec("torch") is None and not pin_memory:
        return NumpyArrays()
    from lakehouse.loader.forms.torch import TorchArrays

    if pin_memory and not _has_accelerator():
        _logger.warning("pin_memory=True does nothing here: torch finds no accelerator that copies from such memory")
        pin_memory = False
    return TorchArrays(is_page_locked=pin_memory)


def _has_accelerator() -> bool:
    accelerator = require("torch", "pin_memory=True").accelerator
    # For MPS torch cannot lock memory, 2.13.
    return bool(accelerator.is_available() and accelerator.current_accelerator().type != "mps")
