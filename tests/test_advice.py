"""Advice is a decision on counted facts, and what it says to do changes them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.advice import Facts, IndexFacts, KeyFacts, TextFacts, advice, advise
from lakehouse.schema import Column
from lakehouse.types import Type

ROWS = 20_000

facts = st.builds(
    Facts,
    num_rows=st.integers(0, 10**7),
    texts=st.lists(
        st.builds(TextFacts, st.sampled_from("abc"), st.integers(0, 256), st.integers(0, 10**9)), max_size=3
    ).map(tuple),
    key=st.none() | st.builds(KeyFacts, st.just("id"), st.booleans(), st.integers(0, 10**9)),
    indexes=st.lists(st.builds(IndexFacts, st.just("x_idx"), st.just("x"), st.integers(0, 10**7)), max_size=2).map(
        tuple
    ),
    fragment_rows=st.lists(st.integers(0, 10**6), max_size=30).map(tuple),
)


@given(facts)
def test_advice_is_about_what_was_counted_and_says_what_to_call(known):
    found = list(advice(known))
    assert all(each.finding and each.evidence and "t." in each.fix for each in found)
    assert {each.column for each in found} <= {None, "id", "x", *(text.column for text in known.texts)}
    if known.num_rows < 10_000:
        assert all(each.column is None for each in found)


def test_a_table_with_nothing_to_say_about_has_no_advice():
    key = KeyFacts("id", is_indexed=True, nbytes=10**9)
    assert not list(advice(Facts(10**6, key=key, indexes=(IndexFacts("id_idx", "id", 99),), fragment_rows=(10**6,))))


@pytest.fixture
def table(lake):
    rng = np.random.default_rng(0)
    columns = [
        Column("id", "string", nullable=False),
        Column("split", "string"),
        Column("user", "string"),
        Column("caption", "text"),
        Column("label", Type("category", ("a", "b"))),
    ]
    schema = lh.Schema("pets", "id", columns)
    rows = {
        "id": [f"k{i:06}" for i in range(ROWS)],
        "split": rng.choice(["train", "val", None], ROWS, p=[0.8, 0.1, 0.1]).tolist(),
        "user": [f"u{n}" for n in rng.integers(0, 5_000, ROWS)],
        "caption": ["a pet"] * ROWS,
        "label": ["a", "b"] * (ROWS // 2),
    }
    made = lake.create_table("pets", schema=schema)
    made.add(pa.table(rows), progress=False)
    return made


def found(table):
    return {row["column"]: row for row in advise(table.snapshot()).to_pylist()}


def test_text_of_few_values_and_a_key_without_an_index_are_found(table):
    advised = found(table)
    assert set(advised) == {"id", "split"}
    assert advised["split"]["evidence"].startswith("2 different values")
    assert advised["id"]["fix"] == 't.create_index("id", lh.BTree())'


def test_the_fix_of_each_finding_works_as_it_is_written(lake, table):
    t = table  # what the fixes call it
    by_text = lake.sql("SELECT split, count(*) FROM pets GROUP BY 1 ORDER BY 1").fetchall()
    for row in found(table).values():
        exec(row["fix"].split("; in the schema")[0], {"t": t, "lh": lh})
    assert pa.types.is_dictionary(t.schema.field("split_category").type)
    assert lake.sql("SELECT split_category, count(*) FROM pets GROUP BY 1 ORDER BY 1").fetchall() == by_text
    assert not found(table)


def test_rows_that_no_index_covers_and_small_fragments_are_found_and_mended(lake):
    t = lake.create_table("many", data=pa.table({"x": range(ROWS)}))
    t.create_index("x", lh.BTree())
    for start in range(0, 12 * 500, 500):
        t.add(pa.table({"x": range(start, start + 500)}), progress=False)
    advised = found(t)
    assert set(advised) == {"x", None}
    assert advised["x"]["evidence"] == "6,000 of 26,000 rows (23%) are not in it"
    assert advised[None]["evidence"] == "12 of 13 fragments have fewer than 10,000 rows"
    for row in advised.values():
        exec(row["fix"], {"t": t})
    assert not found(t)


def test_advice_reads_a_sample_and_of_few_valued_columns_all(lake):
    rng = np.random.default_rng(0)
    rows = pa.table({"word": ["yes", "no"] * 100_000, "hash": [rng.bytes(32).hex() for _ in range(200_000)]})
    table = lake.create_table("t", data=rows)
    snapshot = table.snapshot()
    snapshot.dataset.io_stats_incremental()
    assert advise(snapshot)["column"].to_pylist() == ["word"]
    assert snapshot.dataset.io_stats_incremental().read_bytes < rows["hash"].nbytes / 4
