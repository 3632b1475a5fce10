"""Values read by their place in the file are those that Lance reads, or Lance reads them."""

import gc
import os
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import reads, types
from lakehouse.errors import CorruptTableError
from lakehouse.reads import places as module
from lakehouse.reads.pages import DataFile
from lakehouse.reads.places import Places
from lakehouse.snapshot import open_snapshot

SCHEMA = pa.schema([pa.field("n", pa.int64()), types.field("image", "image")])
TEXTS = pa.schema([pa.field("n", pa.int64()), types.field("body", "text", storage="uncompressed")])
UNCOMPRESSED = {"lance-encoding:compression": "none"}


def values(sizes, seed=0):
    """Give bytes of these sizes, None for None."""
    rng = np.random.default_rng(seed)
    return [None if size is None else rng.bytes(size) for size in sizes]


def texts(sizes, seed=0):
    """Give texts of so many letters, of one to four bytes each; None for None."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("e \n\0ßж漢🎉"))
    pieces = ("".join(rng.choice(letters, 61)) for _ in sizes)
    return [
        None if size is None else (piece * (size // 61 + 1))[:size] for size, piece in zip(sizes, pieces, strict=True)
    ]


def add(table, first, cells):
    numbers = pa.array(range(first, first + len(cells)), pa.int64())
    table.add(pa.table([numbers, pa.array(cells, table.schema.types[1])], schema=table.schema), progress=False)


def read_by_place(table, row_ids, column="image"):
    """Read as `take_row_ids` does where it can; None where it leaves it to Lance."""
    snapshot = table.snapshot()
    ids = np.asarray(row_ids, np.uint64)
    addresses = reads.row_addresses(snapshot, ids)
    located = Places(snapshot, column).locate(np.tile(ids, 50), np.tile(addresses, 50), more_follow=True)
    if located is None:
        return None
    cells = located.array().to_pylist()
    order = np.random.default_rng(0).permutation(len(located))
    assert located.values(order) == [cells[i] for i in order]
    return cells[: len(ids)]


def by_lance(table, row_ids, column="image"):
    return table.snapshot().dataset._take_rows(np.asarray(row_ids, np.uint64), columns=[column])[column].to_pylist()


@pytest.fixture
def table(lake):
    """Make a table of three fragments of pictures that are none, none of them small."""
    table = lake.create_table("pictures", schema=SCHEMA)
    for part in range(3):
        add(table, 40 * part, values(range(1_000, 41_000, 1_000), seed=part))
    return table


# --- laws

sizes = st.one_of(st.just(0), st.just(1), st.integers(2, 3_000), st.integers(20_000, 90_000))
parts = st.lists(st.lists(sizes, min_size=12, max_size=40), min_size=1, max_size=3)
changes = st.lists(st.sampled_from(["delete", "update", "compact"]), max_size=3)


@pytest.mark.parametrize(("schema", "made"), [(SCHEMA, values), (TEXTS, texts)], ids=["bytes", "texts"])
@settings(max_examples=20)
@given(parts=parts, changes=changes, seed=st.integers(0, 99))
def test_rows_have_their_own_values_whatever_happened_to_the_table(
    tmp_path_factory, schema, made, parts, changes, seed
):
    column = schema.names[1]
    table = lh.connect(tmp_path_factory.mktemp("lake")).create_table("t", schema=schema)
    cells = [made(sizes, number) for number, sizes in enumerate(parts)]
    for number, part in enumerate(cells):
        add(table, sum(map(len, cells[:number])), part)
    for change in changes:
        if change == "delete":
            table.delete("n % 5 = 3")
        elif change == "update":
            table.update(where="n % 4 = 1", values_sql={"n": "n + 0"})  # moves the rows to a new fragment
        else:
            table.compact()
    there, whole = reads.row_ids(table.snapshot()), sum(cells, [])
    row_ids = np.random.default_rng(seed).choice(there, 30)  # in no order, with repeats
    expected = [whole[number] for number in table.take_row_ids(row_ids, columns=["n"])["n"].to_pylist()]
    assert reads.take_row_ids(table.snapshot(), row_ids, [column])[column].to_pylist() == expected
    assert read_by_place(table, row_ids, column) in (None, expected)


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary()])
def test_any_column_of_uncompressed_bytes_is_read_by_place(lake, type_):
    field = pa.field("data", type_, metadata={"lance-encoding:compression": "none"})
    cells = values(range(500, 40_500, 1_000))
    table = lake.create_table("t", data=pa.table([pa.array(cells, type_)], schema=pa.schema([field])))
    ids = reads.row_ids(table.snapshot())[::-1]
    assert read_by_place(table, ids, "data") == cells[::-1] == by_lance(table, ids, "data")


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_any_column_of_uncompressed_text_is_read_by_place(lake, type_):
    field = pa.field("body", type_, metadata=UNCOMPRESSED)
    cells = texts([0, *range(500, 40_000, 1_000), 0, 1])
    table = lake.create_table("t", data=pa.table([pa.array(cells, type_)], schema=pa.schema([field])))
    ids = reads.row_ids(table.snapshot())[::-1]
    assert read_by_place(table, ids, "body") == cells[::-1] == by_lance(table, ids, "body")


def test_pictures_are_read_by_place_from_pages_and_files_of_any_number(table):
    ids = np.random.default_rng(0).permutation(120)
    assert read_by_place(table, ids) == by_lance(table, ids)
    assert read_by_place(table, range(120)) == by_lance(table, range(120))


def test_a_large_column_has_many_pages(lake):
    table = lake.create_table("t", schema=SCHEMA)
    cells = values([600_000] * 40)  # 24 MB, pages are of 8
    add(table, 0, cells)
    assert read_by_place(table, [39, 0, 17, 17]) == [cells[39], cells[0], cells[17], cells[17]]


def test_a_filled_column_lies_in_files_of_its_own(table):
    @lh.udf(pa.large_binary())
    def turned(image: bytes) -> bytes:
        return image[::-1]

    table.add_columns({"turned": turned})
    assert read_by_place(table, range(120), "turned") is None  # nothing there yet
    table.backfill("turned", udf=turned, progress=False)
    ids = np.arange(120)
    expected = [image[::-1] for image in by_lance(table, ids)]
    assert table.take_row_ids(ids, columns=["turned"])["turned"].to_pylist() == expected


# --- what is left to Lance


def test_nulls_are_lances(lake):
    table = lake.create_table("t", schema=SCHEMA)
    cells = values([20_000, None] * 20)
    add(table, 0, cells)
    assert read_by_place(table, range(40)) is None
    assert table.take_row_ids(range(40), columns=["image"])["image"].to_pylist() == cells


def test_text_that_lance_compresses_is_lances(lake):
    table = lake.create_table("t", data=pa.table({"body": texts([2_000] * 40)}))
    assert module.places(table.snapshot(), ["body"], 100) == {}
    assert read_by_place(table, range(40), "body") is None


def test_nulls_and_small_texts_are_lances(lake):
    for name, cells in {"nulls": texts([2_000, None] * 20), "small": texts([5] * 40), "empty": [""] * 40}.items():
        table = lake.create_table(name, schema=TEXTS)
        add(table, 0, cells)
        assert read_by_place(table, range(40), "body") is None
        assert table.take_row_ids(range(40), columns=["body"])["body"].to_pylist() == cells


def test_small_and_compressed_values_are_lances(lake):
    small = lake.create_table("small", schema=SCHEMA)
    add(small, 0, values([5] * 40))
    zstd = pa.field("image", pa.large_binary(), metadata={"lance-encoding:compression": "zstd"})
    cells = pa.array(values([20_000] * 40), pa.large_binary())
    compressed = lake.create_table("compressed", data=pa.table([cells], schema=pa.schema([zstd])))
    for table in (small, compressed):
        assert read_by_place(table, range(40)) is None
        ids = np.arange(40)
        assert table.take_row_ids(ids, columns=["image"])["image"].to_pylist() == by_lance(table, ids)


def test_files_of_the_legacy_format_are_lances(lake):
    cells = values([2_000] * 40)
    data = pa.table([pa.array(cells, pa.large_binary())], names=["image"])
    lance.write_dataset(data, f"{lake.uri}/old.lance", data_storage_version="legacy")
    table = lake.open_table("old")
    assert read_by_place(table, range(40)) is None
    assert table.take_row_ids(range(40), columns=["image"])["image"].to_pylist() == cells


def test_a_few_rows_and_tables_of_other_machines_are_lances(table):
    assert set(module.places(table.snapshot(), ["n", "image"], 100)) == {"image"}
    assert module.places(table.snapshot(), ["image"], 3) == {}


@pytest.mark.parametrize(("more_follow", "num_by_lance"), [(True, 1), (False, 7)])
def test_places_are_read_when_the_rows_asked_for_are_larger_by_far(lake, more_follow, num_by_lance):
    table = lake.create_table("t", schema=SCHEMA)
    add(table, 0, values([500] * 1_000))  # four bytes tell where each lies; 20 rows are two and a half times as many
    snapshot = table.snapshot()
    where, ids = Places(snapshot, "image"), np.arange(20, dtype=np.uint64)
    addresses = reads.row_addresses(snapshot, ids)
    found = [where.locate(ids, addresses, more_follow=more_follow) is not None for _ in range(9)]
    assert found == [False] * num_by_lance + [True] * (9 - num_by_lance)


def test_places_of_long_tables_are_not_held(table, monkeypatch):
    monkeypatch.setattr(module, "_MAX_NBYTES", 350)  # of two files of the three
    assert read_by_place(table, range(80)) == by_lance(table, range(80))
    assert read_by_place(table, range(120)) is None
    assert table.take_row_ids(range(120), columns=["image"])["image"].to_pylist() == by_lance(table, range(120))


# --- damage


def data_file(table):
    return max(Path(table.uri, "data").iterdir(), key=lambda path: path.stat().st_mtime_ns)


@pytest.fixture(params=["one by one", "to one buffer"])
def read_again(request, table):
    """Find the values of all rows and read them, and give what reads them once more."""
    snapshot, ids = table.snapshot(), np.arange(120, dtype=np.uint64)
    located = Places(snapshot, "image").locate(ids, reads.row_addresses(snapshot, ids), more_follow=True)

    def read():
        if request.param == "one by one":
            return located.values(np.arange(120))
        return located.array().to_pylist()

    assert read() == by_lance(table, ids)
    return read


def test_a_file_that_was_cut_off_meanwhile_is_an_error(table, read_again):
    os.truncate(data_file(table), 100_000)
    with pytest.raises(CorruptTableError, match=r"ends at byte 100000"):
        read_again()


def test_a_file_whose_bytes_changed_is_an_error(table, read_again):
    with data_file(table).open("r+b") as file:
        file.write(bytes(300_000))
    with pytest.raises(CorruptTableError, match=r"has no value of \d+ bytes at byte"):
        read_again()


def test_a_file_that_is_gone_and_not_held_open_any_more_is_an_error(table):
    snapshot, ids = table.snapshot(), np.arange(120, dtype=np.uint64)
    located = Places(snapshot, "image").locate(ids, reads.row_addresses(snapshot, ids), more_follow=True)
    assert located is not None
    data_file(table).unlink()
    with pytest.raises(CorruptTableError, match=r"is gone; restore it"):
        replace(located, opened=DataFile).values(np.arange(120))


def test_a_file_of_another_size_than_the_table_says_is_lances(table):
    with data_file(table).open("ab") as file:
        file.write(b"more")
    assert read_by_place(table, range(120)) is None


@pytest.mark.parametrize("row", [0, 17])
def test_a_text_that_is_no_utf_8_is_an_error(lake, row):
    """In the first row, which Lance reads too, as in any other."""
    table = lake.create_table("t", schema=TEXTS)
    cells = texts([2_000] * 40)
    add(table, 0, cells)
    file = data_file(table)
    file.write_bytes(file.read_bytes().replace(cells[row].encode(), b"\xff" * len(cells[row].encode())))
    snapshot, ids = lh.connect(table.uri.rpartition("/")[0]).open_table("t").snapshot(), np.arange(40, dtype=np.uint64)
    for read in (
        lambda: reads.take_row_ids(snapshot, ids, ["body"]),
        lambda: reads.locate_row_ids(snapshot, ids, ["body"])[1]["body"].values(np.array([3, row])),
    ):
        with pytest.raises(CorruptTableError, match=r"has a text at byte \d+ that is no UTF-8|invalid utf-8 sequence"):
            read()


def test_what_differs_from_what_lance_reads_is_never_read_again(table, monkeypatch):
    """As it would be if a new Lance put something else behind the same words."""
    right = reads.pages._page
    monkeypatch.setattr(reads.pages, "_page", lambda page: (*right(page)[:4], 4))  # the length taken for four bytes
    ids = np.arange(120, dtype=np.uint64)
    assert read_by_place(table, ids) is None
    assert table.take_row_ids(ids, columns=["image"])["image"].to_pylist() == by_lance(table, ids)


def test_files_are_let_go_with_the_snapshot(table):
    def held():
        gc.collect()
        return [link for link in map(os.readlink, paths()) if table.uri in link]

    def paths():
        return [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink() and os.path.lexists(path)]

    snapshot = open_snapshot(table.snapshot().lake, "pictures")
    reads.take_row_ids(snapshot, range(120), ["image"])
    assert len(held()) == 3
    del snapshot
    assert held() == []


def test_lance_says_of_its_pages_what_is_known(table):
    """On upgrade: `_WORDS` in reads/pages.py are the words of pylance 14.0.2 for a page of pictures."""
    assert read_by_place(table, range(120)) is not None
