"""Which table a name means, what `_rowid` and `*` are, and what a table is called that is not there."""

import datetime as dt

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from lakehouse.errors import InvalidArgumentError, QueryError, TableNotFoundError, VersionNotFoundError


@pytest.fixture
def small(lake):
    lake.create_table("pets", data=pa.table({"id": ["a", "b", "c"], "width": [3, 1, 2]}))
    lake.create_table("owners", data=pa.table({"id": ["a", "b"], "name": ["x", "y"]}))
    return lake


def test_a_table_that_is_not_there_is_named_with_those_that_are(small):
    with pytest.raises(TableNotFoundError, match="'pest'.*owners, pets.*labels.*did you mean 'pets'"):
        small.sql("SELECT * FROM pest", tables={"labels": pa.table({"a": [1]})})


def test_names_have_no_case(small):
    assert small.sql("SELECT ID FROM PETS WHERE Width = 3").fetchall() == [("a",)]


def test_a_name_of_with_goes_before_tables_and_tables_before_the_lake(small):
    labels = pa.table({"id": ["z"]})
    with pytest.warns(UserWarning, match="'pets'"):
        assert small.sql("SELECT id FROM pets", tables={"pets": labels}).fetchall() == [("z",)]
    statement = "WITH pets AS (SELECT 'w' AS id) SELECT id FROM pets"
    assert small.sql(statement, tables={"pets": labels}).fetchall() == [("w",)]


def test_a_name_of_with_means_the_lake_s_table_inside_itself_and_outside_of_its_scope(small):
    inside = "WITH pets AS (SELECT id FROM pets WHERE width > 1) SELECT count(*) FROM pets"
    assert small.sql(inside).fetchall() == [(2,)]
    outside = "SELECT (SELECT count(*) FROM (WITH pets AS (SELECT 1) SELECT * FROM pets)), count(*) FROM pets"
    assert small.sql(outside).fetchall() == [(1, 3)]
    later = "WITH a AS (SELECT * FROM pets), pets AS (SELECT 1) SELECT (SELECT count(*) FROM a), count(*) FROM pets"
    assert small.sql(later).fetchall() == [(3, 1)]


def test_only_what_a_statement_names_is_opened(small):
    from lakehouse.sql import Engine

    opened = []

    def resolve(name):
        opened.append(str(name))
        return small._snapshot_of(name)

    engine = Engine(resolve, small.table_names)
    engine.query("SELECT 'owners' FROM pets p, pets q AT (VERSION => 1), pets r").schema  # noqa: B018 - asked, not run
    assert sorted(opened) == ["pets", "pets AT (VERSION => 1)"]


def test_row_ids_are_there_when_named_and_only_then(small):
    pets = small.open_table("pets")
    assert small.sql("SELECT * FROM pets").arrow().column_names == ["id", "width"]
    hits = small.sql("SELECT *, _rowid FROM pets ORDER BY width").arrow()
    assert hits.column_names == ["id", "width", "_rowid"]
    assert pets.take_row_ids(hits["_rowid"].to_pylist())["id"].to_pylist() == ["b", "c", "a"]
    both = small.sql("SELECT p._rowid, p.*, o.* FROM pets p JOIN owners o USING (id) WHERE o._rowid < 9")
    assert both.arrow().column_names == ["_rowid", "id", "width", "id", "name"]
    assert small.sql("SELECT count(*) FROM pets p JOIN pets q ON p._rowid = q._rowid").fetchall() == [(3,)]
    assert small.sql("SELECT * EXCLUDE (_rowid) FROM pets WHERE _rowid >= 0 AND width = 3").fetchall() == [("a", 3)]
    assert small.sql("SELECT max(_rowid) FROM (SELECT _rowid, * FROM pets)").fetchall() == [(2,)]
    assert small.sql("SELECT count(COLUMNS(*)) FROM pets WHERE _rowid < 9").arrow().column_names == ["id", "width"]


def test_row_ids_of_a_result_open_its_samples(small):
    pets = small.open_table("pets")
    joined = "SELECT p._rowid AS r, o.name FROM pets p JOIN owners o USING (id) ORDER BY p.width"
    hits = small.sql(joined).arrow()
    assert [row["id"] for row in pets.rows(hits["r"].to_pylist())] == ["b", "a"]
    few = small.sql("SELECT _rowid FROM pets USING SAMPLE 2").arrow()["_rowid"].to_pylist()
    assert len(pets.rows(few)) == 2
    first = small.sql("SELECT upper(id) AS u, _rowid FROM pets ORDER BY width LIMIT 1").arrow()
    assert first.column_names == ["u", "_rowid"]
    assert pets.rows(first["_rowid"].to_pylist())[0]["width"] == 1
    both = small.sql("SELECT *, p._rowid, o._rowid AS theirs FROM pets p JOIN owners o USING (id) LIMIT 1").arrow()
    assert both.column_names == ["id", "width", "name", "_rowid", "theirs"]


def test_row_ids_do_not_join_by_themselves(small):
    statement = "SELECT count(*) FROM (SELECT _rowid AS r FROM owners), pets NATURAL JOIN owners"
    assert small.sql(statement).fetchall() == [(4,)]


def test_a_table_may_have_any_name_a_lake_can_hold(lake):
    for name in ("select", "two-words", "v1.5", "7days"):
        lake.create_table(name, data=pa.table({"order": [1]}))
        assert lake.sql(f'SELECT "order" FROM "{name}"').fetchall() == [(1,)]


@pytest.mark.parametrize("name", ["main.pets", "lake.pets", "lake.main.pets", "Main.PETS", '"lake"."main"."pets"'])
def test_the_schema_that_tools_are_told_can_be_written(small, name):
    assert small.sql(f"SELECT count(*) FROM {name}").fetchall() == [(3,)]
    assert small.sql(f"SELECT {name}.id FROM {name} WHERE {name}.width = 1").fetchall() == [("b",)]
    assert small.sql(f"SELECT count(*) FROM {name} p AT (VERSION => 1) WHERE p.width > 0").fetchall() == [(0,)]
    shadowed = f"WITH pets AS (SELECT 1) SELECT count(*) FROM pets, {name} p"
    assert small.sql(shadowed).fetchall() == [(3,)]
    assert small.sql(f"DESCRIBE {name}").arrow()["column_name"].to_pylist() == ["id", "width"]


def test_columns_may_be_written_with_the_schema(small):
    assert small.sql("SELECT main.pets.id FROM pets ORDER BY lake.main.pets.width LIMIT 1").fetchall() == [("b",)]
    boxed = pa.table({"pets": [{"id": 7}]})
    assert small.sql("SELECT main.pets.id FROM main", tables={"main": boxed}).fetchall() == [(7,)]


@pytest.mark.parametrize("name", ["other.pets", "memory.main.pets", "lake.other.pets", "temp.pets"])
def test_a_schema_that_is_not_there_is_told_which_is(small, name):
    with pytest.raises(QueryError, match=r"one schema, lake\.main"):
        small.sql(f"SELECT * FROM {name}")


def test_show_and_describe(small):
    assert small.sql("SHOW TABLES FROM main").fetchall() == small.sql("SHOW TABLES FROM lake.main").fetchall()
    with pytest.raises(QueryError, match="one schema"):
        small.sql("SHOW TABLES FROM other")
    summary = small.sql("SUMMARIZE pets").arrow()
    assert summary["max"].to_pylist() == ["c", "3"]
    assert small.sql("SELECT min FROM (SUMMARIZE SELECT width FROM pets)").fetchall() == [("1",)]
    with pytest.raises(QueryError, match="a lake has nothing else to show"):
        small.sql("SHOW SCHEMAS")
    assert small.sql("SHOW TABLES").fetchall() == [("owners",), ("pets",)]
    more = small.sql("SHOW TABLES", tables={"labels": pa.table({"a": [1]})})
    assert more.fetchall() == [("labels",), ("owners",), ("pets",)]
    assert small.sql("SELECT name FROM (SHOW TABLES) WHERE name LIKE 'p%'").fetchall() == [("pets",)]
    described = small.sql("DESCRIBE pets").arrow()
    assert described["column_name"].to_pylist() == ["id", "width"]
    assert described["column_type"].to_pylist() == ["VARCHAR", "BIGINT"]
    assert small.sql("SHOW pets").arrow() == described
    assert small.sql("DESCRIBE SELECT width AS w FROM pets").arrow()["column_name"].to_pylist() == ["w"]


def test_the_information_schema_knows_every_table_and_column(lake, small):
    media = lake.create_table("media", schema="images")
    asked = (
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $t ORDER BY ordinal_position"
    )
    for table in (media, lake.open_table("pets")):
        described = small.sql(f"DESCRIBE {table.name}").arrow()
        columns = small.sql(asked, {"t": table.name}).arrow()
        assert columns["column_name"].to_pylist() == table.schema.names
        assert columns["data_type"].to_pylist() == described["column_type"].to_pylist()
    joined = """
        SELECT t.table_name, count(*) FROM information_schema.tables t JOIN Information_Schema.Columns USING (table_name)
        GROUP BY 1 ORDER BY 1"""
    assert small.sql(joined).fetchall() == [("media", len(media.schema)), ("owners", 2), ("pets", 2)]
    shown = dict(small.sql("SELECT name, column_names FROM (SHOW ALL TABLES)").fetchall())
    assert shown == {name: lake.open_table(name).schema.names for name in lake.table_names()}
    not_null = "SELECT column_name FROM information_schema.columns WHERE is_nullable = 'NO'"
    assert small.sql(not_null).fetchall() == [("id",)]


@pytest.mark.parametrize(
    ("at", "error", "word"),
    [
        ("VERSION => 99", VersionNotFoundError, "newest"),
        ("VERSION => 'nope'", VersionNotFoundError, "nope"),
        ("VERSION => 1.5", QueryError, "a number or a tag"),
        ("VERSION => NULL", QueryError, "a number or a tag"),
        ("TIMESTAMP => 'yesterday'", QueryError, "2026-01-31 12:00:00"),
        ("TIMESTAMP => 3", QueryError, "2026-01-31 12:00:00"),
        ("TIMESTAMP => 'infinity'::TIMESTAMP", QueryError, "2026-01-31 12:00:00"),
        ("VERSION => now()", QueryError, "a number or a tag"),
        ("TIMESTAMP => '2001-01-01'", VersionNotFoundError, "the oldest that is kept is 1"),
        ("TAG => 'v1'", QueryError, "'v1' for a tag"),
        ("VERSION => $v", QueryError, r"\$v"),
        ("VERSION => (SELECT max(width) FROM pets)", QueryError, "AT clause"),
    ],
)
def test_an_at_clause_that_means_no_version_is_told_how_it_goes(small, at, error, word):
    with pytest.raises(error, match=word):
        small.sql(f"SELECT * FROM pets AT ({at})").arrow()


def test_at_a_time_the_version_of_that_time_is_read(small):
    pets = small.open_table("pets")
    made = {}
    for width in (1, 2, 3):
        version = pets.update(values={"width": width}).version
        made[version] = pets.history(limit=1)["timestamp"][0].as_py()
    for version, moment in made.items():
        now = {"t": moment}
        assert small.sql("SELECT * FROM pets AT (TIMESTAMP => $t)", now).arrow() == pets.checkout(version).to_arrow()
        text = moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(" ")  # as all of this SQL, in UTC
        for written in (f"'{text}'", f"TIMESTAMP '{text}'", f"TIMESTAMPTZ '{text}+00'"):
            assert set(small.sql(f"FROM pets AT (TIMESTAMP => {written})").versions.values()) == {version}
        assert pets.checkout(moment).version == version
    assert set(small.sql("FROM pets AT (TIMESTAMP => now())").versions.values()) == {max(made)}


def test_an_at_clause_on_what_has_no_versions_is_refused(small):
    with pytest.raises(QueryError, match="no versions"):
        small.sql("SELECT * FROM labels AT (VERSION => 1)", tables={"labels": pa.table({"a": [1]})})
    with pytest.raises(QueryError, match="w has no versions"):
        small.sql("WITH w AS (FROM pets) SELECT * FROM w AT (VERSION => 1)")
    with pytest.raises(QueryError, match=r"information_schema\.tables has no versions"):
        small.sql("SELECT * FROM information_schema.tables AT (VERSION => 1)")


def test_names_that_differ_only_in_case_are_not_handed_in(small):
    with pytest.raises(InvalidArgumentError, match="case"):
        small.sql("SELECT 1", tables={"a": pa.table({"a": [1]}), "A": pa.table({"a": [1]})})


def test_what_is_no_table_is_not_handed_in(small):
    with pytest.raises(InvalidArgumentError, match="labels"):
        small.sql("SELECT * FROM labels", tables={"labels": 3})


def test_what_has_no_name_is_not_handed_in(small):
    for handed in (pd.DataFrame({"a": [1]}), [("labels", pa.table({"a": [1]}))]):
        with pytest.raises(InvalidArgumentError, match="tables={'name'"):
            small.sql("SELECT * FROM labels", tables=handed)


def test_a_frame_that_arrow_does_not_take_is_named_with_its_column(small):
    with pytest.raises(InvalidArgumentError, match="'labels'.*DataFrame.*column a"):
        small.sql("SELECT * FROM labels", tables={"labels": pd.DataFrame({"a": [1, "x"]})})


def test_a_relation_of_another_duckdb_and_a_union_are_handed_in(small):
    relation = duckdb.connect().sql("SELECT 7 AS a, union_value(n := 8) AS u")
    both = {"relation": relation, "labels": relation.to_arrow_table()}
    asked = "SELECT r.a, r.u, l.u FROM relation r JOIN labels l USING (a)"
    assert small.sql(asked, tables=both).fetchall() == [(7, 8, 8)]


@pytest.mark.parametrize("statement", [3, None, b"SELECT 1"])
def test_a_statement_is_text(small, statement):
    with pytest.raises(InvalidArgumentError, match="string"):
        small.sql(statement)


def test_stamps_of_features_are_never_seen(small):
    import lakehouse as lh

    @lh.udf(pa.int64())
    def twice(width: int) -> int:
        return 2 * width

    pets = small.open_table("pets")
    pets.add_columns({"twice": twice})
    pets.backfill(udf=twice)
    assert small.sql("SELECT * FROM pets ORDER BY id").fetchall() == [("a", 3, 6), ("b", 1, 2), ("c", 2, 4)]
    with pytest.raises(QueryError):
        small.sql("SELECT twice__stamp FROM pets")


STATEMENTS = {
    "PIVOT pets ON id IN ('a', 'b') USING sum(width)": [(3, 1)],
    "SELECT * FROM (SELECT id, width FROM pets) PIVOT (max(width) FOR id IN ('a', 'c'))": [(3, 2)],
    "UNPIVOT pets ON width INTO NAME k VALUE v ORDER BY v": [("b", "width", 1), ("c", "width", 2), ("a", "width", 3)],
    "SELECT count(*) FROM pets UNPIVOT (v FOR k IN (width))": [(3,)],
    "VALUES (1, 'x'), (2, 'y')": [(1, "x"), (2, "y")],
    "FROM pets ORDER BY id LIMIT 1": [("a", 3)],
    "FROM pets SELECT id ORDER BY id LIMIT 1": [("a",)],
    "TABLE owners": [("a", "x"), ("b", "y")],
    "(SELECT id FROM pets WHERE width = 3) UNION (SELECT id FROM owners) ORDER BY 1": [("a",), ("b",)],
    "-- one\nSELECT /* two */ 1 -- three\n;;": [(1,)],
    "SELECT p.id, o.name FROM pets p POSITIONAL JOIN owners o WHERE o.name = 'y'": [("b", "y")],
    "SELECT p.id, o.id FROM pets p ASOF JOIN owners o ON p.id >= o.id ORDER BY 1": [("a", "a"), ("b", "b"), ("c", "b")],
    "SELECT m FROM pets p, LATERAL (SELECT p.width + 1 AS m) ORDER BY m": [(2,), (3,), (4,)],
    "WITH RECURSIVE r AS (SELECT min(width) AS i FROM pets UNION ALL SELECT i + 1 FROM r WHERE i < (SELECT max(width) FROM pets)) SELECT count(*) FROM r": [
        (3,)
    ],
    "WITH RECURSIVE pets AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM pets WHERE i < 4) SELECT count(*) FROM pets": [
        (4,)
    ],
    "SELECT [x + width FOR x IN [1, 2]] FROM pets ORDER BY id LIMIT 1": [([4, 5],)],
    "SELECT list_transform([1, 2], lambda x: x * width) FROM pets ORDER BY id LIMIT 1": [([3, 6],)],
    "SELECT COLUMNS('w.*') FROM pets ORDER BY 1 LIMIT 1": [(1,)],
    "SELECT * EXCLUDE (id) REPLACE (width * 2 AS width) FROM pets ORDER BY 1": [(2,), (4,), (6,)],
    "SELECT id, sum(width) FROM pets GROUP BY ROLLUP (id) ORDER BY ALL NULLS LAST": [
        ("a", 3),
        ("b", 1),
        ("c", 2),
        (None, 6),
    ],
    "SELECT count(*) FROM (SHOW TABLES) UNION ALL SELECT count(*) FROM pets ORDER BY 1": [(2,), (3,)],
    "SELECT id FROM pets UNION ALL BY NAME SELECT 9 AS width, id FROM owners ORDER BY ALL LIMIT 1": [("a", 9)],
    "WITH a AS MATERIALIZED (FROM pets) SELECT count(*) FROM a, a AS b": [(9,)],
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_of_every_kind_is_answered(small, statement):
    assert small.sql(statement).fetchall() == STATEMENTS[statement]


def test_a_text_that_is_asked_again_is_not_changed_by_its_first_answer(small):
    statement = "SELECT upper(id) AS u, ? AS n FROM pets AT (VERSION => ?) WHERE width > ? ORDER BY width LIMIT ?"
    version = small.open_table("pets").version
    assert small.sql(statement, ["x", version, 1, 1]).fetchall() == [("C", "x")]
    assert small.sql(statement, ["y", version, 0, 2]).fetchall() == [("B", "y"), ("C", "y")]
    assert small.sql(statement, ["y", 1, 0, 2]).fetchall() == []
    other = pa.table({"id": ["q"], "width": [7]})
    with pytest.warns(UserWarning, match="pets"):
        assert small.sql("SELECT * FROM pets", tables={"pets": other}).fetchall() == [("q", 7)]
    assert len(small.sql("SELECT * FROM pets").fetchall()) == 3


def test_only_so_many_texts_are_remembered():
    from lakehouse.sql.recent import Recent

    most = 256
    made, recent = [], Recent(most)

    def get(text):
        return recent.get(text, lambda: made.append(text) or f"made {text}")

    for number in range(most + 1):
        assert get(f"{number}") == f"made {number}"
    assert get("1") == "made 1"
    assert len(made) == most + 1
    get("0")
    assert made[-1] == "0"


def test_columns_that_differ_in_case_only_are_not_mistaken_for_each_other(lake):
    table = lake.create_table("case", data=pa.table({"x": [1, 2], "X": [3, 4], "y": [5, 6]}))
    assert lake.sql('SELECT * FROM "case"').arrow().to_pydict() == {"x": [1, 2], "X_1": [3, 4], "y": [5, 6]}
    assert lake.sql('SELECT x, X_1, Y FROM "case" WHERE x_1 > 3').fetchall() == [(2, 4, 6)]
    for statement in ('SELECT "X" FROM "case"', 'SELECT y FROM "case" c WHERE c.X = 3', 'SELECT max(X) FROM "case"'):
        with pytest.raises(QueryError, match="'X' would be another column; write 'X_1'"):
            lake.sql(statement)
    with pytest.raises(QueryError, match="write 'X_1'"):
        lake.sql("SELECT X FROM handed", tables={"handed": table.to_arrow()})
    names = "SELECT column_name FROM information_schema.columns ORDER BY ordinal_position"
    assert lake.sql(names).fetchall() == [("x",), ("X_1",), ("y",)]
    assert lake.sql("SELECT column_names FROM (SHOW ALL TABLES)").fetchall() == [(["x", "X_1", "y"],)]
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert lake.sql("SELECT a, a_1 FROM twice", tables={"twice": twice}).fetchall() == [(1, 2)]
