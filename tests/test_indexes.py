"""Indexes: what can be built is checked first, and what is built covers what it says."""

import threading

import lance
import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.errors import ColumnNotFoundError, IndexNotFoundError, InvalidArgumentError
from lakehouse.index_kinds import FTS, Bitmap, BTree, IvfFlat, IvfPq, LabelList
from lakehouse.indexes import create_index, drop_index, indexes, optimize_indices

NUM_ROWS = 300


def rows(start=0, num_rows=NUM_ROWS, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    ids = range(start, start + num_rows)

    def vectors(values, value_type):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), value_type), dim)

    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "v": vectors(rng.normal(size=(num_rows, dim)), pa.float32()),
            "half": vectors(rng.normal(size=(num_rows, dim)).astype("f2"), pa.float16()),
            "bits": vectors(rng.integers(0, 256, size=(num_rows, dim)), pa.uint8()),
            "few": vectors(rng.normal(size=(num_rows, dim)), pa.float32()).take(
                pa.array([*range(9)] + [None] * (num_rows - 9))
            ),
            "name": pa.array([f"name {i}" for i in ids]),
            "flag": pa.array([i % 2 == 0 for i in ids]),
            "tags": pa.array([[f"t{i % 4}"] for i in ids]),
            "split": pa.array([f"s{i % 3}" for i in ids]).dictionary_encode(),
            "data": pa.array([b"x"] * num_rows, pa.large_binary()),
        }
    )


@pytest.fixture
def table(tmp_path):
    return lh.connect(tmp_path).create_table("t", data=rows())


def kinds(table):
    return dict(zip(*indexes(table.snapshot()).select(["column", "kind"]).to_pydict().values(), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: IvfPq(num_partitions=0),
        lambda: IvfPq(num_sub_vectors=-1),
        lambda: IvfPq(num_bits=5),
        lambda: IvfPq(distance_type="euclid"),
        lambda: IvfPq(distance_type="hamming"),
        lambda: IvfFlat(distance_type="cosin"),
        lambda: FTS(base_tokenizer="simpel"),
    ],
)
def test_options_check_themselves(make):
    with pytest.raises(InvalidArgumentError):
        make()


def test_the_kind_is_chosen_by_the_type_of_the_column(table):
    for column in ("id", "v", "half", "bits", "name", "flag", "tags"):
        create_index(table.snapshot(), column)
    assert kinds(table) == {
        "id": "BTREE",
        "v": "IVF_PQ",
        "half": "IVF_PQ",
        "bits": "IVF_FLAT",
        "name": "BTREE",
        "flag": "BITMAP",
        "tags": "LABEL_LIST",
    }


def test_text_columns_get_a_text_index(tmp_path):
    table = lh.connect(tmp_path).create_table("t", schema=pa.schema([lh.types.field("caption", "text")]))
    table.add([{"caption": "a cat"}], progress=False)
    create_index(table.snapshot(), "caption")
    assert kinds(table) == {"caption": "FTS"}


@pytest.mark.parametrize(
    ("column", "options", "word"),
    [
        ("v", BTree(), "numbers"),
        ("v", FTS(), "strings"),
        ("id", IvfPq(), "vectors"),
        ("id", LabelList(), "lists"),
        ("id", FTS(), "strings"),
        ("split", None, "dictionary|category"),
        ("bits", IvfPq(), "hamming"),
        ("v", IvfFlat(distance_type="hamming"), "l2 or cosine or dot"),
        ("v", IvfPq(num_sub_vectors=5), "4 does"),
        ("v", IvfPq(num_partitions=301), "300 vectors"),
        ("few", None, "256 rows .* 9"),
        ("id", "BTREE", r"lh\.BTree\(\)"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is(table, column, options, word):
    version = table.version
    with pytest.raises(InvalidArgumentError, match=word):
        create_index(table.snapshot(), column, options)
    assert table.version == version


def test_an_unknown_column_or_index_is_named(table):
    with pytest.raises(ColumnNotFoundError, match="naem"):
        create_index(table.snapshot(), "naem")
    with pytest.raises(IndexNotFoundError, match="no indexes"):
        drop_index(table.snapshot(), "name")


def test_an_index_is_replaced_by_one_of_its_family_and_stands_beside_others(table):
    create_index(table.snapshot(), "v", IvfPq(num_sub_vectors=4))
    create_index(table.snapshot(), "v", IvfFlat(distance_type="cosine"))
    create_index(table.snapshot(), "name", BTree())
    create_index(table.snapshot(), "name", FTS())
    create_index(table.snapshot(), "name", Bitmap())
    found = indexes(table.snapshot())
    assert sorted(
        zip(found["column"].to_pylist(), found["kind"].to_pylist(), found["distance_type"].to_pylist(), strict=True)
    ) == [
        ("name", "BITMAP", None),
        ("name", "FTS", None),
        ("v", "IVF_FLAT", "cosine"),
    ]


def test_an_index_is_dropped_by_its_own_name_or_its_columns(table):
    create_index(table.snapshot(), "id")
    drop_index(table.snapshot(), "id")
    create_index(table.snapshot(), "name", BTree())
    create_index(table.snapshot(), "name", FTS())
    with pytest.raises(InvalidArgumentError, match="name_idx, name_text_idx"):
        drop_index(table.snapshot(), "name")
    drop_index(table.snapshot(), "name_text_idx")
    assert kinds(table) == {"name": "BTREE"}


def test_what_an_index_does_not_cover_is_counted_and_folded_in(table):
    create_index(table.snapshot(), "v", IvfPq(num_sub_vectors=4))
    create_index(table.snapshot(), "id")
    table.add(rows(NUM_ROWS, 10), progress=False)
    table.delete("id < 5")
    before = indexes(table.snapshot())
    assert before["num_rows_indexed"].to_pylist() == [295, 295]
    assert before["num_rows_not_indexed"].to_pylist() == [10, 10]
    assert min(before["nbytes"].to_pylist()) > 0
    optimize_indices(table.snapshot())
    after = indexes(table.snapshot())
    assert after["num_rows_indexed"].to_pylist() == [305, 305]
    assert after["num_rows_not_indexed"].to_pylist() == [0, 0]


def test_a_table_without_indexes_has_an_empty_list_of_the_same_columns(table):
    create_index(table.snapshot(), "id")
    with_one = indexes(table.snapshot())
    drop_index(table.snapshot(), "id")
    assert indexes(table.snapshot()).schema == with_one.schema
    assert indexes(table.snapshot()).num_rows == 0


def test_an_older_version_has_the_indexes_it_had(table):
    before = table.version
    create_index(table.snapshot(), "id")
    assert indexes(table.checkout(before).snapshot()).num_rows == 0


def test_indexes_built_at_once_all_stand(table):
    failures = []

    def build(column, options):
        try:
            create_index(table.snapshot(), column, options)
        except Exception as error:
            failures.append(error)

    jobs = [("id", BTree()), ("id", BTree()), ("name", FTS()), ("name", BTree()), ("flag", Bitmap())]
    threads = [threading.Thread(target=build, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for number in range(3):
        table.add(rows(1000 + 10 * number, 10), progress=False)
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(indexes(table.snapshot())["kind"].to_pylist()) == ["BITMAP", "BTREE", "BTREE", "FTS"]


def test_a_column_dropped_while_its_index_is_built_leaves_no_index_behind(lake, monkeypatch):
    table = lake.create_table("t", data=[{"x": i, "f": i} for i in range(100)])
    build = lance.LanceDataset.create_scalar_index

    def after_a_drop(dataset, *args, **options):
        monkeypatch.undo()
        lance.dataset(table.uri).drop_columns(["f"])  # by anybody
        return build(dataset, *args, **options)

    monkeypatch.setattr(lance.LanceDataset, "create_scalar_index", after_a_drop)
    with pytest.raises(ColumnNotFoundError, match="'f'.*dropped meanwhile"):
        table.create_index("f")
    assert table.count_rows("x > 0") == 99
    assert table.indexes().num_rows == 0


def test_an_index_on_a_column_that_went_before_the_attempt_is_refused(lake):
    table = lake.create_table("t", data=[{"x": i, "f": i} for i in range(10)])
    now = table.snapshot()
    table.drop_columns(["f"])
    with pytest.raises(ColumnNotFoundError, match="'f'"):
        create_index(now, "f", BTree())
