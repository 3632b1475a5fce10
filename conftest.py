"""What tests and docstring examples share."""

import signal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings

import lakehouse as lh

# The suite tries the same examples every time; `make soak` tries many more, and others each time.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=1000)
settings.load_profile("suite")

# A shell's background job ignores Ctrl-C, and so would every process that a test starts to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


pytest.register_assert_rewrite("tests.interrupted")  # its assertions show what differs


@pytest.fixture(autouse=True)
def docstring_examples(request, monkeypatch, doctest_namespace):
    """Examples start in an empty folder, named `folder`, with the imports that any reader would guess."""
    if isinstance(request.node, pytest.DoctestItem):
        folder = request.getfixturevalue("tmp_path")
        monkeypatch.chdir(folder)
        doctest_namespace |= {"folder": folder, "lh": lh, "np": np, "pa": pa}


@pytest.fixture
def lake(tmp_path):
    """Open an empty lake."""
    return lh.connect(tmp_path / "lake")


@pytest.fixture
def pets(lake):
    """Make a table of the `images` family with 20 small pictures."""
    from tests.seeded import pictures

    return lake.create_table("pets", schema="images", data=pictures(20))
