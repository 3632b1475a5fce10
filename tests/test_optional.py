"""Packages that are extras."""

import sys

import pytest

from lakehouse._optional import require
from lakehouse.errors import MissingDependencyError


def test_an_extra_that_is_there_is_imported():
    assert require("av", "reading video").__name__ == "av"


@pytest.mark.parametrize(
    ("module", "extra"), [("av", "video"), ("torch", "torch"), ("ray", "ray"), ("pandas", "pandas")]
)
def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch, module, extra):
    monkeypatch.setitem(sys.modules, module, None)  # what Python itself takes for "not to be found"
    with pytest.raises(MissingDependencyError, match="doing something needs") as caught:
        require(module, "doing something")
    assert f"pip install 'lance-lakehouse[{extra}]'" in str(caught.value)
    assert isinstance(caught.value, ImportError)


def test_part_of_an_extra_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    with pytest.raises(MissingDependencyError, match=r"lance-lakehouse\[torch\]"):
        require("torch.distributed", "finding the rank")
