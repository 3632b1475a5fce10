"""A statement that is asked again is planned once, and answers as if it were asked for the first time."""

import datetime as dt
import gc
import itertools
import math
import weakref
from decimal import Decimal
from random import Random

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.errors import QueryError, TableNotFoundError
from tests import sql_lake
from tests.sql_generator import generate

STATEMENTS = [
    "SELECT count(*) FROM pets",
    "SELECT count(*) FROM pets WHERE width > 4",
    "SELECT id, width FROM pets WHERE id IN ('k1', 'k7') ORDER BY id",
    "SELECT * FROM pets ORDER BY width DESC, id LIMIT 3",
    "SELECT upper(caption) AS u, image FROM pets ORDER BY width DESC, id LIMIT 2 OFFSET 1",
    "SELECT p.id, o.name FROM pets p JOIN owners o ON p.id = o.pet WHERE o.name < 'm' ORDER BY ALL",
    "SELECT id, _rowid FROM pets WHERE image IS NULL ORDER BY id",
    "SELECT count(*), sum(width) FROM pets AT (VERSION => 2)",
    "SELECT count(*), max(id) FROM PETS AT (VERSION => 'kept')",
    "SHOW TABLES",
    "SELECT column_name, data_type FROM information_schema.columns ORDER BY ALL",
    "WITH few AS (FROM pets WHERE width < 5) SELECT count(*) FROM few a JOIN few b USING (id)",
]


def pet(number):
    return {
        "id": f"k{number}",
        "width": number % 9,
        "caption": f"pet {number}",
        "image": None if number % 4 == 0 else bytes([number % 250]) * 20,
    }


SCHEMA = pa.schema(
    [
        lh.types.field("id", "string", nullable=False),
        lh.types.field("width", "int64"),
        lh.types.field("caption", "text"),
        lh.types.field("image", "image"),
    ]
)


class Changes:
    """What happens to a lake between two statements."""

    def __init__(self, lake):
        self.lake = lake
        self.numbers = itertools.count(10)

    @property
    def pets(self):
        return self.lake.open_table("pets")

    def append(self):
        self.pets.add([pet(next(self.numbers)) for _ in range(3)])

    def delete(self):
        self.pets.delete("width = 3")

    def update(self):
        self.pets.update(where="width = 4", values={"width": 40})

    def index(self):
        if not self.pets.indexes():
            self.pets.create_index("id", lh.BTree())

    def add_column(self):
        if "more" not in self.pets.schema.names:
            self.pets.add_columns({"more": "width + 1"})

    def drop_column(self):
        if "more" in self.pets.schema.names:
            self.pets.drop_columns(["more"])

    def make_again(self):
        """As many versions as before, and as many rows: all that differs is what is in them."""
        self.lake.drop_table("pets")
        make_pets(self.lake, [pet(next(self.numbers)) for _ in range(10)])

    def tag(self):
        self.pets.untag("kept")
        self.pets.tag("kept")

    def nothing(self):
        pass


def make_pets(lake, rows):
    table = lake.create_table("pets", schema=SCHEMA, data=pa.Table.from_pylist(rows, SCHEMA))
    table.delete("width = 8")
    table.tag("kept")


@pytest.fixture
def pets(lake):
    make_pets(lake, [pet(number) for number in range(10)])
    lake.create_table("owners", data=[{"pet": f"k{n}", "name": "abcz"[n % 4] * 3} for n in range(0, 40, 3)])
    return lake


def told(lake, statement, params=None):
    """Return all that an answer says, or how it failed."""
    try:
        result = lake.sql(statement, params)
        return result.versions, result.schema, result.arrow().to_pydict(), result.explain().count("Lance answers")
    except lh.errors.LakehouseError as error:
        return type(error), str(error)


CHANGES = [name for name in vars(Changes) if not name.startswith("_") and name != "pets"]


@pytest.mark.parametrize("seed", [2])
def test_what_changed_is_seen_by_a_statement_that_is_asked_again(pets, seed):
    changes, random = Changes(pets), Random(seed)
    for name in ["nothing", *random.sample(CHANGES, len(CHANGES))]:
        getattr(changes, name)()
        fresh = lh.connect(pets.uri)
        for statement in STATEMENTS:
            assert told(pets, statement) == told(fresh, statement), (name, statement)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    return sql_lake.make(tmp_path_factory.mktemp("again"))


@pytest.mark.parametrize("seeds", [range(1_000 + first, 1_010 + first) for first in (0, 10, 20, 30)], ids=str)
def test_generated_statements_answer_the_same_again(generated, seeds):
    for query in (generate(seed, generated.versions) for seed in seeds):
        first, again = (generated.lake.sql(query.for_lake(), query.params) for _ in range(2))
        assert again.schema == first.schema
        one, other = (sorted(map(str, result.arrow().to_pylist())) for result in (first, again))
        assert one == other, query.text


VALUES = [
    *(1, True, 1.0, "1", Decimal("1"), Decimal("1.0"), b"1", None),
    *(0.0, -0.0, math.nan, math.inf),
    *(dt.date(2026, 1, 1), dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    *([1], [1.0], (1,), {"a": 1}),
]


def test_values_that_are_equal_and_not_the_same_are_kept_apart(lake):
    statement = "SELECT typeof($v) AS kind, $v::VARCHAR AS text"
    expected = [lh.connect(lake.uri).sql(statement, {"v": value}).fetchall() for value in VALUES]
    for _ in range(2):
        assert [lake.sql(statement, {"v": value}).fetchall() for value in VALUES] == expected


@pytest.mark.parametrize("statement", [s for s in STATEMENTS if " pets " in s and "upper" not in s and " AT " not in s])
def test_what_is_asked_again_is_not_parsed_again(pets, statement, monkeypatch):
    first = pets.sql(statement).arrow()
    monkeypatch.setattr(pets._engine, "_parser", None)
    assert pets.sql(statement).arrow().equals(first)


def test_a_value_decides_how_many_rows_a_limit_shows_again_and_again(pets):
    statement = "SELECT id FROM pets ORDER BY id LIMIT $k"
    for k in (1, 3, 2, 3, 1):
        assert len(pets.sql(statement, {"k": k}).fetchall()) == k
    for offset in (0, 2, 0, 1):
        rows = pets.sql("SELECT id FROM pets LIMIT 2 OFFSET ?", [offset]).fetchall()
        assert rows == pets.sql("SELECT id FROM pets").fetchall()[offset : offset + 2]


def test_a_version_that_is_computed_is_computed_each_time(pets):
    newest = pets.open_table("pets").version
    statement = "SELECT count(*) FROM pets AT (VERSION => $v + 0)"
    counts = [pets.sql(statement, {"v": version}).fetchall() for version in (1, newest, 1)]
    assert counts[0] == counts[2] != counts[1]


def test_a_table_that_is_gone_is_not_found_again(pets):
    assert pets.sql("FROM owners").arrow().num_rows
    pets.drop_table("owners")
    with pytest.raises(TableNotFoundError, match="owners"):
        pets.sql("FROM owners")


def test_a_table_that_is_handed_in_goes_before_the_lakes_again(pets):
    other = [{"id": "z"}]
    assert pets.sql("SELECT count(*) FROM pets").fetchall() != [(1,)]
    with pytest.warns(UserWarning, match="pets"):
        assert pets.sql("SELECT count(*) FROM pets", tables={"pets": other}).fetchall() == [(1,)]
    assert pets.sql("SELECT count(*) FROM pets").fetchall() != [(1,)]


def test_a_version_is_let_go_when_there_is_a_newer_one(pets):
    """With it the files that it holds open, and the plans over it."""
    for where in ("width > 1", "width > 2"):
        pets.sql(f"SELECT id, image FROM pets WHERE {where}").arrow()
    old = weakref.ref(pets._engine._snapshots.find("pets"))
    pets.open_table("pets").add([pet(20)])
    pets.sql("SELECT count(*) FROM pets").arrow()
    gc.collect()
    assert old() is None
    now = weakref.ref(pets._engine._snapshots.find("pets"))
    pets._engine.close()
    gc.collect()
    assert now() is None
    assert pets.sql("SELECT count(*) FROM pets").fetchall() == [(10,)]


def test_answers_to_one_statement_are_read_side_by_side(pets):
    """Each has its own rows under way, and closing one leaves the others alone."""
    statement = "SELECT id, image FROM pets ORDER BY id"
    results = [pets.sql(statement) for _ in range(3)]
    streams = [result.batches() for result in results]
    streams[0].close()
    assert streams[1].read_all() == streams[2].read_all() == pets.sql(statement).arrow()


def test_the_schema_is_known_before_the_rows_again(pets):
    statement = "SELECT sum(width) AS s, count(*) AS n FROM pets"
    first, again = (pets.sql(statement) for _ in range(2))
    assert again.schema == first.schema
    assert again.df().to_dict("records") == first.df().to_dict("records")
    assert isinstance(again.fetchall()[0][0], int)


def test_what_slots_are_called_is_no_name_and_no_text(pets):
    prefix = pets._engine._prefix
    assert pets.sql("SELECT count(*) FROM pets").fetchall() == [(9,)]
    for statement in (f"FROM {prefix}_0", f"SELECT '{prefix}_0' FROM pets", f"SELECT 1 AS {prefix}_0 FROM pets"):
        with pytest.raises(QueryError, match="name the tables"):
            pets.sql(statement)
    assert pets.sql("SELECT $v FROM pets LIMIT 1", {"v": f"{prefix}_0"}).fetchall() == [(f"{prefix}_0",)]
