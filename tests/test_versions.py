import datetime as dt

import pyarrow as pa
import pytest

from lakehouse._lance import lance
from lakehouse.errors import AlreadyExistsError, InvalidArgumentError, ReadOnlyError, VersionNotFoundError


@pytest.fixture
def table(lake, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    made = lake.create_table("t", schema=pa.schema({"x": pa.int64()}))
    made.add([{"x": 1}, {"x": 2}])
    made.delete("x = 1")
    return made


def test_history_says_what_happened_newest_first(table):
    lance.write_dataset(pa.table({"x": [9]}), table.uri, mode="append")
    table.tag("v1")
    rows = table.history().to_pylist()
    assert [row["version"] for row in rows] == [4, 3, 2, 1]
    assert [row["operation"] for row in rows] == ["Append", "Delete", "Append", "Overwrite"]
    assert [row["num_rows"] for row in rows] == [2, 1, 2, 0]
    assert [row["author"] for row in rows] == [None, "ada", "ada", "ada"]  # the newest is not this library's
    assert [row["message"] for row in rows] == [
        None,
        "deleting rows of 't' where x = 1",
        "adding rows to 't'",
        "creating the table",
    ]
    assert [row["tags"] for row in rows] == [["v1"], [], [], []]
    assert abs(rows[0]["timestamp"] - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)
    assert table.history(limit=2).num_rows == 2
    with pytest.raises(InvalidArgumentError, match="limit is 0"):
        table.history(limit=0)


def test_the_history_of_a_pinned_handle_ends_at_its_version(table):
    assert table.checkout(2).history()["version"].to_pylist() == [2, 1]


def test_versions_that_were_cleaned_up_are_left_out(table):
    lance.dataset(table.uri).cleanup_old_versions(older_than=dt.timedelta(0))
    assert table.history()["version"].to_pylist() == [3]


def test_a_tag_names_the_version_that_the_handle_reads(table):
    table.checkout(2).tag("two")
    table.tag("now")
    table.tag("now")  # says the same again
    assert table.tags() == {"now": 3, "two": 2}
    assert len(table.checkout("two")) == 2
    table.add([{"x": 3}])
    with pytest.raises(AlreadyExistsError, match=r"'now' is on version 3 of 't'; untag\('now'\) first"):
        table.tag("now")
    table.untag("now")
    table.tag("now")
    assert table.tags() == {"now": 4, "two": 2}


def test_a_tagged_version_survives_clean_up(table):
    table.checkout(2).tag("kept")
    lance.dataset(table.uri).cleanup_old_versions(older_than=dt.timedelta(0), error_if_tagged_old_versions=False)
    assert len(table.checkout("kept")) == 2


@pytest.mark.parametrize(("name", "why"), [("", "is empty"), ("3", "read as a version"), ("007", "read as a version")])
def test_a_tag_has_a_name_that_does_not_look_like_a_version(table, name, why):
    with pytest.raises(InvalidArgumentError, match=why):
        table.tag(name)


def test_a_tag_that_is_not_there_is_named_with_the_nearest(table):
    table.tag("train")
    with pytest.raises(VersionNotFoundError, match="no tag 'trian' on 't'; it has train; did you mean 'train'"):
        table.untag("trian")
    with pytest.raises(VersionNotFoundError, match="did you mean 'train'"):
        table.checkout("trian")
    with pytest.raises(VersionNotFoundError, match="no version 17 of table 't'; the newest is 3"):
        table.checkout(17)


def test_a_pinned_handle_never_moves_and_writes_nothing(table):
    pinned = table.checkout(2)
    table.add([{"x": 3}])
    assert (pinned.version, len(pinned)) == (2, 2)
    with pytest.raises(ReadOnlyError, match="pinned to 2"):
        pinned.add([{"x": 4}])
