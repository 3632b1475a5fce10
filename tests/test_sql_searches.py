"""Searches as tables: the same hits as `Table.search`, a WHERE after them or, with prefilter, before."""

import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import types
from lakehouse.errors import ColumnNotFoundError, InvalidArgumentError, QueryError, TableNotFoundError

DIM = 8


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    rng = np.random.default_rng(0)
    lake = lh.connect(tmp_path_factory.mktemp("shop"))
    schema = pa.schema(
        [
            types.field("id", "string"),
            types.field("split", "category", values=["train", "val"]),
            types.field("caption", "text"),
            types.field("embedding", f"vector<float32>[{DIM}]"),
            types.field("image", "image"),
        ]
    )
    table = lake.create_table("shop", schema=schema)
    vectors = rng.random((200, DIM), dtype=np.float32)
    table.add(
        [
            {
                "id": f"k{i:03}",
                "split": "train" if i % 4 == 0 else "val",
                "caption": f"a {('red', 'blue', 'green')[i % 3]} shoe, number {i}",
                "embedding": vectors[i],
                "image": rng.bytes(50),
            }
            for i in range(200)
        ]
    )
    table.create_index("caption", lh.FTS())
    return lake, table, vectors


def test_hits_are_those_of_a_search_nearest_first(shop):
    lake, table, vectors = shop
    ours = lake.sql(
        "SELECT id, image, _distance, _rowid FROM lance_vector_search('shop', 'embedding', $q, k := 7)",
        {"q": vectors[3]},
    )
    hits = table.search(vectors[3], k=7, columns=["id", "image"])
    assert ours.arrow().to_pydict() == hits.select(["id", "image", "_distance", "_rowid"]).to_pydict()


@pytest.mark.parametrize("form", ["k := 5", "k = 5", "k => 5"])
def test_a_query_may_be_written_out_and_options_as_the_extension_writes_them(shop, form):
    lake, table, vectors = shop
    text = ", ".join(repr(float(x)) for x in vectors[5])
    ours = lake.sql(
        f"SELECT id FROM lance_vector_search('shop', 'embedding', [{text}]::FLOAT[{DIM}], {form}, refine_factor := 2)"
    )
    assert [row[0] for row in ours.fetchall()] == table.search(vectors[5], k=5)["id"].to_pylist()


def test_a_where_filters_after_the_search_or_before_it(shop):
    lake, table, vectors = shop
    call = (
        "SELECT id FROM lance_vector_search('shop', 'embedding', $q, k := 10, prefilter := {}) s WHERE s.split = $split"
    )
    params = {"q": vectors[1], "split": "train"}
    after = [row[0] for row in lake.sql(call.format("false"), params).fetchall()]
    before = [row[0] for row in lake.sql(call.format("true"), params).fetchall()]
    everywhere = table.search(vectors[1], k=10)
    assert after == [
        i for i, s in zip(everywhere["id"].to_pylist(), everywhere["split"].to_pylist(), strict=True) if s == "train"
    ]
    assert before == table.search(vectors[1], k=10, where="split = 'train'")["id"].to_pylist()
    assert len(before) == 10 > len(after)


def test_words_are_searched_too(shop):
    lake, table, _ = shop
    ours = lake.sql(
        "SELECT id, _score FROM lance_fts('shop', 'caption', 'blue', k := 5) ORDER BY _score DESC, id"
    ).arrow()
    hits = table.search("blue", "caption", k=5, query_type="fts")
    assert sorted(ours["id"].to_pylist()) == sorted(hits["id"].to_pylist())
    assert lake.sql("SELECT count(*) FROM lance_fts('shop', 'caption', 'blue', k := 500)").fetchall() == [(67,)]


def test_a_search_joins_groups_and_hides_its_row_ids(shop):
    lake, _, vectors = shop
    joined = lake.sql(
        "SELECT p.id, s.image = p.image FROM lance_vector_search('shop', 'embedding', $q) s JOIN shop p USING (id) ORDER BY _distance",
        {"q": vectors[9]},
    ).fetchall()
    assert len(joined) == 10
    assert joined[0] == ("k009", True)
    columns = (
        lake.sql("SELECT * FROM lance_vector_search('shop', 'embedding', $q)", {"q": vectors[9]}).arrow().column_names
    )
    assert columns == ["id", "split", "caption", "embedding", "image", "_distance"]
    near = lake.sql(
        "SELECT count(*) FROM lance_vector_search('shop', 'embedding', $q) WHERE _distance < 1e-6", {"q": vectors[9]}
    )
    assert near.fetchall() == [(1,)]


def test_a_prefilter_knows_its_columns_by_an_alias_that_is_a_columns_name_too(shop):
    lake, _, vectors = shop
    search = "lance_vector_search('shop', 'embedding', $q, k := 5, prefilter := true)"
    asked = f"SELECT split.id FROM {search} split JOIN shop USING (id) WHERE split.split = 'val' AND shop.id > 'k'"
    alone = f"SELECT id FROM {search} WHERE split = 'val'"
    assert sorted(lake.sql(asked, {"q": vectors[0]}).fetchall()) == sorted(
        lake.sql(alone, {"q": vectors[0]}).fetchall()
    )


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        ("lance_vector_search('nope', 'embedding', $q)", TableNotFoundError, "nope"),
        ("lance_vector_search('shop', 'embeding', $q)", ColumnNotFoundError, "embedding"),
        ("lance_vector_search('shop', 'embedding', [1.0])", InvalidArgumentError, "8 numbers"),
        ("lance_vector_search('shop', 'embedding', $q, k := 0)", InvalidArgumentError, "k is"),
        ("lance_vector_search('shop', 'embedding', $q, k := 'x')", QueryError, "k is a int"),
        ("lance_vector_search('shop', 'embedding', $q, nprobes := 3)", QueryError, "did you mean 'nprobs'"),
        ("lance_vector_search('shop', $q)", QueryError, "column is a str"),
        ("lance_vector_search('shop')", QueryError, "needs column"),
        ("lance_vector_search('/etc/passwd', 'a', $q)", TableNotFoundError, "passwd"),
        (
            "lance_vector_search('shop', 'embedding', $q, prefilter := true) WHERE length(id) > 3",
            QueryError,
            "prefilter.*id",
        ),
        (
            "(FROM lance_vector_search('shop', 'embedding', $q, prefilter := true)) WHERE id = 'k001'",
            QueryError,
            "one SELECT",
        ),
        ("lance_vector_search('shop', 'embedding', (SELECT embedding FROM shop LIMIT 1))", QueryError, "a query.*[$]q"),
        ("shop p, lance_vector_search('shop', 'embedding', p.embedding)", QueryError, r"column p\.embedding.*[$]q"),
        ("lance_vector_search('shop', 'embedding', $q) AT (VERSION => 1)", QueryError, "takes no AT"),
        (
            "lance_hybrid_search('shop', 'embedding', $q, 'caption', 'blue')",
            QueryError,
            "lance_hybrid_search.*not built yet",
        ),
    ],
)
def test_a_call_that_cannot_be_answered_says_why(shop, call, error, word):
    lake, _, vectors = shop
    params = {"q": vectors[0]} if "$q" in call else None
    with pytest.raises(error, match=word):
        lake.sql(f"SELECT * FROM {call}", params).arrow()
