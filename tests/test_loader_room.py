"""Large batches have memory of their own, and hold what they would hold in any other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from lakehouse.loader.forms.numpy import NumpyArrays
from lakehouse.loader.forms.room import room
from lakehouse.loader.forms.torch import TorchArrays

LARGE = (3, 300, 300)  # four of them are over the megabyte from which on they have memory of their own
DTYPES = [torch.uint8, torch.bool, torch.bfloat16, torch.float32, torch.complex64]


def tensors(dtype, shape, num_rows=4):
    bits = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (num_rows, *shape)))
    return [each.to(dtype) for each in bits]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [LARGE, (2, 3), (0, 4), ()], ids=str)
def test_tensors_are_stacked_as_torch_does(dtype, shape):
    for values in (tensors(dtype, shape), [value.movedim(0, -1) for value in tensors(dtype, shape) if shape]):
        if values:
            stacked, expected = TorchArrays().stack(values), torch.stack(values)
            assert (stacked.dtype, stacked.shape, stacked.stride()) == (dtype, expected.shape, expected.stride())
            assert stacked.to(torch.complex64).equal(expected.to(torch.complex64))


def test_tensors_of_many_kinds_are_left_to_torch():
    values = tensors(torch.float32, LARGE)
    assert TorchArrays().stack([*values, values[0].double()]).dtype == torch.float64
    assert TorchArrays().stack([value.requires_grad_() for value in values]).requires_grad
    assert TorchArrays().stack([torch.eye(2).to_sparse()] * 2).is_sparse


@settings(max_examples=30)
@given(st.data())
def test_arrays_are_stacked_as_numpy_does(data):
    shape = data.draw(st.one_of(st.just(LARGE), arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0)))
    dtypes = data.draw(st.lists(st.sampled_from(["u1", "f4", "i8", "O", "M8[ms]"]), min_size=4, max_size=4))
    whole = np.random.default_rng(0).integers(0, 9, (4, *shape))
    values = [each.astype("i8").astype(dtype) for each, dtype in zip(whole, dtypes[:1] * 3 + dtypes[3:], strict=True)]
    axes = data.draw(st.permutations(range(len(shape))))
    values = [np.asarray(value).transpose(axes) for value in values]
    try:
        expected = np.stack(values)
    except TypeError:  # numbers and times
        with pytest.raises(TypeError):
            NumpyArrays().stack(values)
        return
    stacked = NumpyArrays().stack(values)
    assert stacked.dtype == expected.dtype
    assert np.array_equal(stacked, expected)
    assert stacked.flags.writeable


def held_nbytes():
    rollup = Path("/proc/self/smaps_rollup").read_text().split()
    return int(rollup[rollup.index("Anonymous:") + 1]) << 10


def test_memory_is_given_back_when_an_array_is_let_go():
    np.empty(24 << 20, np.uint8)[:] = 1  # from now on malloc keeps what is no larger
    before = held_nbytes()
    batch = room((16 << 20,), np.uint8)
    batch[:] = 1
    assert held_nbytes() - before > 12 << 20
    del batch
    assert held_nbytes() - before < 4 << 20


def test_an_array_may_be_filled_whatever_its_size():
    for shape in ((0,), (3, 0, 5), (7,), (2 << 20,), (600, 700, 3)):
        made = room(shape, np.float32)
        assert (made.shape, made.dtype) == (shape, np.dtype(np.float32))
        made[...] = 1
        assert made.sum(dtype=np.float64) == made.size
