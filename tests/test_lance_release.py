"""Feature columns stand on Lance's conflict rules, so they are not written with a release that nobody has tested."""

from importlib.metadata import requires, version

import lance
import pytest
from packaging.requirements import Requirement

from lakehouse import _lance
from lakehouse.errors import UnsupportedTableError


@pytest.fixture
def other_release(monkeypatch):
    monkeypatch.setattr(lance, "__version__", "14.9.0")


def test_the_installed_release_is_a_tested_one_and_in_the_range():
    assert version("pylance") in _lance.TESTED
    declared = next(Requirement(line) for line in requires("lance-lakehouse") if line.startswith("pylance"))
    assert all(tested in declared.specifier for tested in _lance.TESTED)


@pytest.mark.usefixtures("other_release")
def test_features_are_not_declared_with_an_untested_release(lake):
    table = lake.create_table("pets", data=[{"w": 2}])
    table.add([{"w": 3}], progress=False)  # rows are plain Lance
    with pytest.raises(UnsupportedTableError, match=r"14\.9\.0 is installed.*pip install pylance=="):
        table.add_columns({"area": "w * w"})
    assert table.schema.names == ["w"]


def test_features_are_not_filled_nor_reset_with_an_untested_release(lake, request):
    table = lake.create_table("pets", data=[{"w": 2}])
    table.add_columns({"area": "w * w"})
    request.getfixturevalue("other_release")
    for write in (
        lambda: table.backfill("area", progress=False),
        lambda: table.update(values={"w": 3}),
        lambda: table.rename_column("area", "square"),
    ):
        with pytest.raises(UnsupportedTableError, match=r"14\.9\.0"):
            write()
    assert table.features()["state"].to_pylist() == ["declared"]


@pytest.mark.usefixtures("other_release")
def test_whoever_knows_better_may(lake, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_UNTESTED_PYLANCE", "1")
    table = lake.create_table("pets", data=[{"w": 2}])
    table.add_columns({"area": "w * w"})
    assert table.backfill("area", progress=False).num_filled == 1
