"""Generated statements: what a lake answers is what DuckDB answers over the same rows as Parquet, at any version."""

import math

import pytest

import lakehouse as lh
from tests import sql_lake
from tests.sql_generator import generate

NUM_QUERIES = 120  # of 500; the others are in tests/soak/test_soak_sql.py
MEMORY = {"columns kept in memory": None, "columns read each time": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return sql_lake.make(tmp_path_factory.mktemp("generated"))


@pytest.fixture(scope="module", params=MEMORY)
def lake(request, made):
    return lh.connect(made.lake.uri, sql_limits=lh.SqlLimits(resident_nbytes=MEMORY[request.param], timeout_s=100))


@pytest.mark.parametrize("seed", range(NUM_QUERIES))
def test_an_answer_is_that_of_duckdb_over_parquet(made, lake, seed):
    check(lake, made.reference, generate(seed, made.versions))


def test_a_seed_is_a_statement_and_most_statements_find_rows(made):
    queries = [generate(seed, made.versions) for seed in range(NUM_QUERIES)]
    assert queries == [generate(seed, made.versions) for seed in range(NUM_QUERIES)]
    assert len({query.text for query in queries}) == NUM_QUERIES
    found = [made.reference.sql(q.for_reference(), params=q.params).to_arrow_table().num_rows for q in queries]
    assert sum(map(bool, found)) > 0.7 * NUM_QUERIES


def test_tables_are_what_makes_reading_hard(made):
    """Each version has other rows, and among them are those that engines compare in ways of their own."""
    counts = [made.reference.sql(f"SELECT count(*) FROM pets_{v}").fetchall() for v in made.versions["pets"]]
    assert len(set(map(str, counts))) == 3
    newest = made.lake.open_table("pets").snapshot()
    fragments = newest.dataset.get_fragments()
    assert len(fragments) >= 8
    assert any(fragment.num_deletions for fragment in fragments)
    assert made.lake.open_table("pets").indexes().num_rows == 4
    seen = f"SELECT DISTINCT coalesce(score::VARCHAR, 'null') FROM pets_{newest.version}"
    assert {"nan", "inf", "-inf", "null", "-0.0"} <= {text for (text,) in made.reference.sql(seen).fetchall()}


def check(lake, reference, query):
    """Ask both, show seed, statement and answers where they differ, and return the number of rows."""
    ours = lake.sql(query.for_lake(), query.params).arrow()
    theirs = reference.sql(query.for_reference(), params=query.params).to_arrow_table()
    assert ours.schema.names == theirs.schema.names
    mine, other = rows(ours), rows(theirs)
    if not query.ordered:
        mine, other = sorted(mine), sorted(other)
    assert mine == other, (
        f"seed {query.seed}: {query.for_lake()}\n{query.params}\nours:   {mine[:20]}\nDuckDB: {other[:20]}"
    )
    return len(mine)


def rows(table):
    """Rows as text, in which NaN is NaN and -0.0 is the 0.0 that it equals."""
    columns = [map(told, column.to_pylist()) for column in table.columns]
    return [str(row) for row in zip(*columns, strict=True)]


def told(value):
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value + 0.0)
    if isinstance(value, list):
        return str([told(each) for each in value])
    if isinstance(value, dict):
        return str({name: told(each) for name, each in value.items()})
    return repr(value)
