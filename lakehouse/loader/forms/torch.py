"""Where torch comes in: tensors, and who is who among the ranks. Imported where torch is installed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.loader.forms.numpy import NumpyArrays, is_numeric
from lakehouse.loader.forms.room import LARGE_NBYTES, room

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import torch

__all__ = ["TorchArrays", "broadcast", "process_group"]


@dataclass(frozen=True)
class TorchArrays:
    """Tensors over the memory of the NumPy arrays they are made of.

    Parameters
    ----------
    is_page_locked
        Whether batches are handed out in memory that an accelerator copies from by itself.
    """

    is_page_locked: bool = False
    name = "torch"

    def wrap(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """View an array as a tensor, one that is read-only too: it is a batch's own, whatever it is cut from."""
        import torch

        return torch.from_numpy(array) if array.flags.writeable else torch.utils.dlpack.from_dlpack(array)

    def is_array(self, value: Any) -> bool:
        """Whether it is a tensor or an array of numbers."""
        import torch

        return is_numeric(value) if isinstance(value, np.ndarray) else isinstance(value, torch.Tensor)

    def stack(self, values: Sequence[Any]) -> torch.Tensor:
        """Stack tensors of one shape, or arrays, however these lie in memory."""
        import torch

        if all(isinstance(value, np.ndarray) for value in values):
            return self.wrap(NumpyArrays().stack(values))
        tensors = [self._tensor(value) for value in values]
        first = tensors[0]
        are_plain = all(_is_plain(tensor) and tensor.dtype == first.dtype for tensor in tensors)
        if not are_plain or len(tensors) * first.nbytes < LARGE_NBYTES:
            return torch.stack(tensors)
        memory = torch.from_numpy(room([len(tensors) * first.nbytes], np.uint8))
        return torch.stack(tensors, out=memory.view(first.dtype).view(len(tensors), *first.shape))

    def _tensor(self, value: Any) -> torch.Tensor:
        """Copy an array as torch takes it: in this machine's byte order, no axis backwards, to be written to."""
        import torch

        if not isinstance(value, np.ndarray):
            return torch.as_tensor(value)
        return torch.from_numpy(np.array(value, value.dtype.newbyteorder("="), order="C"))

    def join(self, values: Sequence[Any], order: npt.NDArray[np.int64]) -> torch.Tensor:
        """Put tensors one behind the other, and the rows of it all in an order."""
        import torch

        return torch.cat([torch.as_tensor(value) for value in values])[torch.from_numpy(order)]

    def handed_out(self, batch: Any) -> Any:
        """Give a batch as it is handed out, by torch's own rules of what in it is locked."""
        if not self.is_page_locked:
            return batch
        from torch.utils.data._utils.pin_memory import pin_memory

        return pin_memory(batch)  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether its elements may be put into memory of ours."""
    import torch

    lies_there = tensor.is_cpu and tensor.layout is torch.strided and not tensor.is_quantized
    return type(tensor) is torch.Tensor and lies_there and not tensor.requires_grad


def process_group() -> tuple[int, int] | None:
    """Return rank and world size of ``torch.distributed`` if it is initialised.

    Who has not imported torch cannot have initialised it, so it is not imported to find out.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def broadcast(value: Any) -> Any:
    """Give every rank what rank 0 holds."""
    import torch.distributed as dist

    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]
