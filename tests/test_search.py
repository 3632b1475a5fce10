"""Search equals the definition of nearest without an index, and leaves no row out with one."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.errors import ColumnNotFoundError, FilterError, InvalidArgumentError
from lakehouse.index_kinds import FTS, IvfFlat, IvfPq
from lakehouse.indexes import create_index
from lakehouse.search import search

DIM = 16


def data(num_rows=300, start=0, seed=0, vectors=None):
    rng = np.random.default_rng(seed)
    ids = range(start, start + num_rows)
    vectors = rng.normal(size=(num_rows, DIM)).astype("f4") if vectors is None else vectors
    fields = [
        lh.types.field("id", "int64"),
        lh.types.field("v", f"vector<float32>[{vectors.shape[1]}]"),
        lh.types.field("name", "string"),
        lh.types.field("caption", "text"),
        lh.types.field("image", "image"),
    ]
    return pa.table(
        [
            pa.array(ids, pa.int64()),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
            pa.array([f"name {i}" for i in ids]),
            pa.array([f"number{i} cat {'dog' if i % 10 == 0 else 'bird'}" for i in ids], pa.large_string()),
            pa.array([b"x"] * num_rows, pa.large_binary()),
        ],
        schema=pa.schema(fields),
    )


def vectors_of(table):
    return np.stack(table.to_arrow(columns=["v"])["v"].to_numpy())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return lh.connect(tmp_path_factory.mktemp("plain")).create_table("t", data=data())


@pytest.fixture
def table(tmp_path):
    return lh.connect(tmp_path).create_table("t", data=data())


def distances(vectors, query, distance_type):
    vectors, query = vectors.astype("f8"), np.asarray(query, "f8")
    if distance_type == "l2":
        return ((vectors - query) ** 2).sum(axis=1)
    if distance_type == "dot":
        return 1 - vectors @ query
    return 1 - vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.sampled_from(["l2", "cosine", "dot"]))
def test_without_an_index_the_hits_are_those_of_the_definition(plain, seed, k, distance_type):
    query = np.random.default_rng(seed).normal(size=DIM)
    truth = distances(vectors_of(plain), query, distance_type)
    hits = search(plain.snapshot(), query, k=k, distance_type=distance_type)
    assert hits["id"].to_pylist() == np.argsort(truth)[:k].tolist()
    np.testing.assert_allclose(hits["_distance"], np.sort(truth)[:k], rtol=1e-4, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 299), st.integers(1, 20))
def test_where_filters_before_the_search(plain, least, k):
    truth = distances(vectors_of(plain), np.ones(DIM), "l2")
    expected = [i for i in np.argsort(truth).tolist() if i >= least][:k]
    hits = search(plain.snapshot(), np.ones(DIM), k=k, where=("id >= $least", {"least": least}))
    assert hits["id"].to_pylist() == expected


def test_hits_leave_media_and_vectors_out_unless_named(plain):
    assert search(plain.snapshot(), np.ones(DIM)).column_names == ["id", "name", "_rowid", "_distance"]
    hits = search(plain.snapshot(), np.ones(DIM), k=2, columns=["v", "image"])
    assert hits.column_names == ["v", "image", "_rowid", "_distance"]
    assert hits["image"].to_pylist() == [b"x", b"x"]
    assert search(plain.snapshot(), np.ones(DIM), columns=[]).column_names == ["_rowid", "_distance"]


def test_row_ids_of_hits_are_those_of_the_rows(plain):
    hits = search(plain.snapshot(), np.ones(DIM), k=7)
    assert plain.take_row_ids(hits["_rowid"].to_pylist(), columns=["id"])["id"].to_pylist() == hits["id"].to_pylist()


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        np.asarray,
        tuple,
        pa.array,
        lambda q: pa.array([q], pa.list_(pa.float32(), DIM))[0].values,
        lambda q: q.astype("f2"),
    ],
)
def test_a_vector_may_come_in_any_form(plain, wrap):
    query = np.arange(DIM, dtype="f4")
    assert search(plain.snapshot(), wrap(query)).equals(search(plain.snapshot(), query))


def test_several_queries_are_answered_at_once_each_as_if_alone(plain):
    queries = np.random.default_rng(1).normal(size=(3, DIM))
    for given_queries in (queries, queries.tolist(), queries[:1]):
        hits = search(plain.snapshot(), given_queries, k=4)
        assert hits.column_names[0] == "query_index"
        for number, query in enumerate(np.asarray(given_queries)):
            alone = search(plain.snapshot(), query, k=4)
            own = hits.filter(pa.compute.equal(hits["query_index"], number))
            assert own["id"].to_pylist() == alone["id"].to_pylist()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"query": [1.0, 2.0]}, r"16 numbers; the query has shape \(2,\)"),
        ({"query": np.zeros((2, 3, DIM))}, "shape"),
        ({"query": np.zeros((0, DIM))}, "shape"),
        ({"query": np.full(DIM, np.nan)}, "NaN"),
        ({"query": np.full(DIM, 1e39)}, "too large"),
        ({"query": ["a"] * DIM}, "numbers"),
        ({"query": None}, "shape"),
        ({"query": np.ones(DIM), "k": 0}, "k is a whole number"),
        ({"query": np.ones(DIM), "k": 2.5}, "k is a whole number"),
        ({"query": np.ones(DIM), "column": "id"}, "columns of vectors: v"),
        ({"query": np.ones(DIM), "query_type": "fts"}, "words"),
        ({"query": np.ones(DIM), "query_type": "vectro"}, "vector"),
        ({"query": np.ones(DIM), "distance_type": "hamming"}, "l2 or cosine or dot"),
        ({"query": np.ones(DIM), "nprobes": 0}, "nprobes"),
        ({"query": np.ones(DIM), "refine_factor": -1}, "refine_factor"),
        ({"query": np.zeros(DIM), "distance_type": "cosine"}, "direction"),
        ({"query": "cat", "query_type": "vector"}, "model"),
        ({"query": "cat", "column": "v"}, "columns of text: name, caption"),
        ({"query": "cat"}, "name one: name, caption"),
        ({"query": " ", "column": "caption"}, "words"),
        ({"query": "cat", "column": "caption", "nprobes": 3}, "vector search"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(plain, arguments, word):
    with pytest.raises(InvalidArgumentError, match=word):
        search(plain.snapshot(), **arguments)


def test_unknown_columns_and_broken_predicates_are_named(plain):
    for arguments in ({"column": "vv"}, {"columns": ["idd"]}):
        with pytest.raises(ColumnNotFoundError):
            search(plain.snapshot(), np.ones(DIM), **arguments)
    for where in ("idd > 3", "id >", ("id > $x", {})):
        with pytest.raises(FilterError):
            search(plain.snapshot(), np.ones(DIM), where=where)


def test_several_vector_columns_need_a_name_unless_one_is_indexed(tmp_path):
    two = data().append_column("w", data(seed=1)["v"])
    table = lh.connect(tmp_path).create_table("t", data=two)
    with pytest.raises(InvalidArgumentError, match="name one: v, w"):
        search(table.snapshot(), np.ones(DIM))
    create_index(table.snapshot(), "w", IvfFlat())
    assert search(table.snapshot(), np.ones(DIM)).equals(search(table.snapshot(), np.ones(DIM), "w"))


def test_null_vectors_are_nowhere_near(tmp_path):
    rows = data(5).set_column(1, data(5).schema.field("v"), data(5)["v"].take(pa.array([0, None, 2, None, 4])))
    table = lh.connect(tmp_path).create_table("t", data=rows)
    assert sorted(search(table.snapshot(), np.ones(DIM), k=9)["id"].to_pylist()) == [0, 2, 4]


def clustered(num_rows, dim, rng):
    centres = np.random.default_rng(0).normal(size=(50, dim))
    return (centres[rng.integers(0, 50, num_rows)] + 0.4 * rng.normal(size=(num_rows, dim))).astype("f4")


def test_a_quantized_index_finds_nearly_all_of_clustered_neighbours(tmp_path):
    rng = np.random.default_rng(0)
    vectors, queries = clustered(5000, 64, rng), clustered(20, 64, rng)
    table = lh.connect(tmp_path).create_table("t", data=data(5000, vectors=vectors))
    create_index(table.snapshot(), "v", IvfPq(num_partitions=4))
    found = 0
    for query in queries:
        truth = np.argsort(distances(vectors, query, "l2"))[:10]
        found += len(np.intersect1d(truth, search(table.snapshot(), query)["id"]))
    assert found / 200 >= 0.9


def test_distances_are_true_ones_although_the_index_is_quantized(table):
    create_index(table.snapshot(), "v", IvfPq(num_sub_vectors=2))
    hits = search(table.snapshot(), np.ones(DIM), columns=["v"])
    truth = distances(np.stack(hits["v"].to_numpy()), np.ones(DIM), "l2")
    np.testing.assert_allclose(hits["_distance"], truth, rtol=1e-4)


@pytest.mark.parametrize("options", [IvfPq(num_sub_vectors=4), IvfFlat()])
def test_rows_not_yet_indexed_are_searched_too(table, options):
    create_index(table.snapshot(), "v", options)
    query = np.full(DIM, 9.0, "f4")
    table.add(data(1, start=999, vectors=query[None]), progress=False)
    hits = search(table.snapshot(), query, k=3)
    assert hits["id"].to_pylist()[0] == 999
    assert hits["_distance"].to_pylist()[0] == 0
    assert len(hits) == 3


@pytest.mark.parametrize("options", [IvfPq(num_sub_vectors=4), IvfFlat()])
def test_a_vector_updated_after_the_index_was_built_is_found_where_it_is_now(table, options):
    create_index(table.snapshot(), "v", options)
    before = search(table.snapshot(), np.ones(DIM), k=1)["id"][0].as_py()
    table.update(where=f"id = {before}", values={"v": [9.0] * DIM})
    assert search(table.snapshot(), np.full(DIM, 9.0), k=1)["id"].to_pylist() == [before]
    assert before not in search(table.snapshot(), np.ones(DIM), k=5)["id"].to_pylist()


def test_deleted_rows_are_not_found_through_an_index(table):
    create_index(table.snapshot(), "v", IvfFlat())
    nearest = search(table.snapshot(), np.ones(DIM), k=1)["id"][0].as_py()
    table.delete(f"id = {nearest}")
    assert nearest not in search(table.snapshot(), np.ones(DIM), k=20)["id"].to_pylist()


def test_distance_is_that_of_the_index_unless_another_is_asked(table):
    vectors = vectors_of(table)
    create_index(table.snapshot(), "v", IvfFlat(distance_type="cosine", num_partitions=1))
    for distance_type in (None, "l2", "dot"):
        truth = distances(vectors, np.ones(DIM), distance_type or "cosine")
        hits = search(table.snapshot(), np.ones(DIM), distance_type=distance_type)
        assert hits["id"].to_pylist() == np.argsort(truth)[:10].tolist()


def test_an_empty_index_of_another_make_does_not_change_the_distance(tmp_path):
    table = lh.connect(tmp_path).create_table("t", data=data(50))
    table.snapshot().dataset.create_index("v", "IVF_PQ", metric="cosine", num_sub_vectors=4)
    truth = distances(vectors_of(table), np.ones(DIM), "cosine")
    assert search(table.snapshot(), np.ones(DIM))["id"].to_pylist() == np.argsort(truth)[:10].tolist()


def test_bytes_are_searched_by_hamming_distance(tmp_path):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, size=(300, 8)).astype("u1")
    column = pa.FixedSizeListArray.from_arrays(pa.array(hashes.reshape(-1)), 8)
    table = lh.connect(tmp_path).create_table("t", data=pa.table({"id": range(300), "hash": column}))
    truth = np.unpackbits(hashes ^ hashes[7], axis=1).sum(axis=1)
    for indexed in (False, True):
        if indexed:
            create_index(table.snapshot(), "hash", IvfFlat(num_partitions=1, distance_type="hamming"))
        hits = search(table.snapshot(), hashes[7], k=300)
        assert hits["_distance"].to_pylist() == np.sort(truth).tolist()
    with pytest.raises(InvalidArgumentError, match="0 to 255"):
        search(table.snapshot(), np.full(8, 256))


def test_words_are_found_with_and_without_an_index_and_in_rows_that_came_later(table):
    def ids(text, **options):
        return sorted(search(table.snapshot(), text, "caption", **options)["id"].to_pylist())

    assert ids("number7") == [7]
    assert ids("dog", k=100) == list(range(0, 300, 10))
    create_index(table.snapshot(), "caption", FTS())
    table.add(data(2, start=1000), progress=False)
    assert ids("number7") == [7]
    assert ids("number1001 number7") == [7, 1001]
    assert ids("dog", k=100, where="id < 35 OR id >= 1000") == [0, 10, 20, 30, 1000]
    assert search(table.snapshot(), "number7")["id"].to_pylist() == [7]


def test_text_hits_come_best_first_with_their_score(table):
    create_index(table.snapshot(), "caption", FTS())
    hits = search(table.snapshot(), "number20 dog", "caption", k=5)
    assert hits.column_names == ["id", "name", "_rowid", "_score"]
    assert hits["id"].to_pylist()[0] == 20
    assert hits["_score"].to_pylist() == sorted(hits["_score"].to_pylist(), reverse=True)
    assert search(table.snapshot(), "zebra", "caption").num_rows == 0
