import datetime as dt
import os

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import reads
from lakehouse.errors import RowNotFoundError


@pytest.fixture(params=["inline", "blob"])
def table(request, lake):
    schema = lh.Schema.parse(
        f"""
        name = "t"
        key = "id"
        [columns]
        id = {{ type = "string", nullable = false }}
        n = {{ type = "int64" }}
        note = {{ type = "text" }}
        image = {{ type = "image", storage = "{request.param}" }}
        """
    )
    made = lake.create_table("t", schema=schema)
    made.add(
        [
            {"id": "none", "n": 0, "note": None, "image": None},
            {"id": "empty", "n": 1, "note": "", "image": b""},
            {"id": "small", "n": 2, "note": "grüße", "image": b"abc"},
            {"id": "large", "n": 3, "note": "x", "image": os.urandom(100_000)},
        ]
    )
    return made


def test_rows_are_mappings_whose_media_are_handles(table):
    row = table["small"]
    assert list(row) == ["id", "n", "note", "image"]
    assert (len(row), row["n"], row["id"]) == (4, 2, "small")
    assert isinstance(row["image"], lh.Image)
    assert (row["image"].read(), row["image"].nbytes) == (b"abc", 3)
    assert isinstance(row["note"], lh.Text)
    assert row["note"].read() == "grüße".encode()
    assert "<image>" in repr(row)
    with pytest.raises(KeyError):
        row["nope"]


def test_null_and_empty_are_told_apart(table):
    none, empty = table.rows(["none", "empty"])
    assert (none["image"], none["note"]) == (None, None)
    assert (empty["image"].read(), empty["image"].nbytes, empty["note"].read()) == (b"", 0, b"")


def test_order_and_repeats_are_kept_by_keys_and_by_row_ids(table):
    ids = reads.row_ids(table.snapshot())
    for wanted in (["large", "none", "large"], ids[[3, 0, 3]]):
        got = table.rows(wanted)
        assert [row["n"] for row in got] == [3, 0, 3]
        assert got[0]["image"].read() == got[2]["image"].read()


def test_files_of_the_same_cell_have_places_of_their_own(table):
    image = table["large"]["image"]
    one, other = image.open(), image.open()
    first = one.read(10)
    assert other.tell() == 0
    assert other.read(10) == first
    other.seek(-5, os.SEEK_END)
    assert len(other.read()) == 5


def test_nothing_of_a_medium_is_read_before_it_is_asked_for(table):
    dataset = table.snapshot().dataset
    table.rows(["small", "large"])
    dataset.io_stats_incremental()
    rows = table.rows(["small", "large"])
    assert dataset.io_stats_incremental().read_bytes < 20_000
    rows[1]["image"].read()
    assert dataset.io_stats_incremental().read_bytes >= 100_000


def test_the_media_of_a_batch_are_looked_up_in_one_read(lake):
    schema = lh.Schema.parse(
        'name = "t"\nkey = "id"\n[columns]\nid = { type = "string", nullable = false }\nclip = { type = "video" }'
    )
    table = lake.create_table("many", schema=schema)
    table.add([{"id": str(n), "clip": bytes([n]) if n % 2 else None} for n in range(200)])
    dataset = table.snapshot().dataset
    table.rows(["0"])
    dataset.io_stats_incremental()
    rows = table.rows([str(n) for n in range(200)])
    assert [row["clip"] is None for row in rows] == [n % 2 == 0 for n in range(200)]
    assert dataset.io_stats_incremental().read_iops < 30


def test_a_key_that_is_not_there_is_named(table):
    with pytest.raises(RowNotFoundError, match="'smal'"):
        table["smal"]
    assert table.rows([]) == []


def test_dates_that_python_does_not_know_are_text(lake):
    table = lake.create_table("t", data=pa.table({"d": pa.array([2**31 - 2, 0, None], pa.int32()).cast(pa.date32())}))
    rows = table.rows([0, 1, 2])
    assert [row["d"] for row in rows] == ["5881580-07-10", dt.date(1970, 1, 1), None]
    assert "5881580" in repr(rows)
