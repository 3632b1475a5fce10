"""Every pair of operations at every phase; what is left to fill is filled after, and all of it must be true then."""

import shutil

import pytest

from tests import library_operations
from tests.test_conflict_matrix import LIBRARY, base, library_cells

pytestmark = pytest.mark.soak

__all__ = ["base"]  # the fixture


@pytest.mark.parametrize(
    ("stopped", "phase", "other", "sign"),
    [pytest.param(*cell, sign, id=", ".join(cell)) for cell, sign in library_cells(LIBRARY).items()],
)
def test_whoever_comes_in_between_everything_can_be_filled_after(tmp_path, base, stopped, phase, other, sign):
    shutil.copytree(base, tmp_path / "lake")
    assert library_operations.outcome(tmp_path / "lake", stopped, phase, other, to_the_end=True) == sign
    shutil.rmtree(tmp_path)
