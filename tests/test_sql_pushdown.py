"""What Lance is told of a WHERE: never fewer rows than DuckDB keeps, and from an index where there is one."""

import datetime as dt
import decimal
import struct

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import types
from lakehouse.errors import LakehouseError
from lakehouse.sql import Engine

NEGATIVE_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8 << 48))[0]  # what 0/0 gives on x86
MOMENTS = [dt.datetime(2024, 1, 1), dt.datetime(2024, 3, 31, 1, 30), dt.datetime(1969, 12, 31, 23, 59, 59, 999999)]
MOMENTS += [dt.datetime(2024, 1, 1, 0, 0, 0, 500000), dt.datetime(2024, 1, 1, 0, 0, 1), dt.datetime(1900, 1, 1)]
TIMES = [dt.time(0), dt.time(3), dt.time(3, 0, 0, 1), dt.time(23, 59, 59, 999999), dt.time(3, 0, 0, 500000)]
FLOATS = [0.0, -0.0, float("nan"), NEGATIVE_NAN, float("inf"), float("-inf"), 0.1, 0.5, -1.5, 1e-7, 65504.0, 3.4e38]
FLOAT_LITERALS = ["0", "-0.0", "0.1", "0.5", "-1.5", "'nan'::DOUBLE", "'nan'::FLOAT", "'inf'::DOUBLE", "'-inf'::FLOAT"]
FLOAT_LITERALS += [
    "0.1::FLOAT",
    "0.1::DOUBLE",
    "1e300",
    "1e-7",
    "5e-324",
    "16777217",
    "9007199254740993",
    "0.30000000000000004",
]
INTEGER_LITERALS = [
    "0",
    "1",
    "-1",
    "127",
    "128",
    "255",
    "-129",
    "2.5",
    "2.0",
    "-0.5",
    "1e2",
    "0.1::DOUBLE",
    "2147483648",
]
INTEGER_LITERALS += ["9223372036854775807", "18446744073709551615", "9007199254740993", "9007199254740993::DOUBLE"]
DECIMAL_LITERALS = [
    "0",
    "1.5",
    "-1.5",
    "1.505",
    "0.1::DOUBLE",
    "0.3::DOUBLE",
    "1.50",
    "99.99",
    "1e0",
    "100",
    "0.005",
    "-0.005",
]
MOMENT_LITERALS = [f"{kind} '{each}'" for each in MOMENTS for kind in ("TIMESTAMP", "TIMESTAMPTZ")]
MOMENT_LITERALS += [f"'{each}'" for each in MOMENTS]
MOMENT_LITERALS += [
    "DATE '2024-01-01'",
    "'2024-01-01'",
    "TIMESTAMPTZ '2024-01-01 02:00:00+02'",
    "DATE '2023-12-31' + INTERVAL 1 DAY",
]
WORDS = ["", "a", "abc", "abd", "ab\nc", "a%c", "a_c", "a\\c", "ünï", "A", "'", "zz", "\U0001f600"]
WORD_LITERALS = ["''", "'a'", "'abc'", "'ab'", "'ünï'", "''''", "'a_c'", "'zzz'", "$word"]
BYTES = [b"", b"\x00", b"ab", b"abc", b"\xff\xff"]


def integers(name):
    info = np.iinfo(name)
    edges = {int(info.min), int(info.min) + 1, 0, 1, 2, 3, int(info.max) - 1, int(info.max)}
    return pa.type_for_alias(name), sorted(edges), INTEGER_LITERALS


KINDS = {name: integers(name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")}
KINDS |= {
    "float16": (pa.float16(), [x for x in FLOATS if not 65504 < abs(x) < np.inf], FLOAT_LITERALS),
    "float32": (pa.float32(), FLOATS, FLOAT_LITERALS),
    "float64": (pa.float64(), [*FLOATS, 5e-324, 1e300, 2.0**53, 0.1 + 0.2], FLOAT_LITERALS),
    "money": (
        pa.decimal128(5, 2),
        [decimal.Decimal(x) for x in ("0", "1.50", "-1.50", "1.51", "999.99", "0.10", "0.30")],
        DECIMAL_LITERALS,
    ),
    "wide": (
        pa.decimal128(38, 10),
        [decimal.Decimal(x) for x in ("0", "1.5", "0.1", "9999999999999999999999999999.9999999999")],
        DECIMAL_LITERALS,
    ),
    "date": (
        pa.date32(),
        [each.date() for each in MOMENTS],
        ["DATE '2024-01-01'", "'2024-03-31'", "TIMESTAMP '2024-01-01 12:00:00'", "DATE '2023-12-31' + INTERVAL 1 DAY"],
    ),
    "date64": (
        pa.date64(),
        [each.date() for each in MOMENTS],
        ["DATE '2024-01-01'", "'2024-03-31'", "TIMESTAMP '2024-01-01 12:00:00'"],
    ),
    "time32": (
        pa.time32("ms"),
        [each.replace(microsecond=each.microsecond // 1000 * 1000) for each in TIMES],
        ["TIME '03:00:00'", "TIME '03:00:00.000001'", "'03:00:00.5'"],
    ),
    "time64": (pa.time64("us"), TIMES, ["TIME '03:00:00'", "TIME '03:00:00.000001'", "'23:59:59.999999'"]),
    "time64ns": (pa.time64("ns"), TIMES, ["TIME '03:00:00'", "TIME '03:00:00.000001'"]),
    "flag": (pa.bool_(), [True, False], ["true", "false", "1=1"]),
    "string": (pa.string(), WORDS, WORD_LITERALS),
    "large_string": (pa.large_string(), WORDS, WORD_LITERALS),
    "category": (pa.dictionary(pa.int8(), pa.string()), WORDS, WORD_LITERALS),
    "codes": (pa.dictionary(pa.int16(), pa.int64()), [0, 1, 2, -1, 2**62], INTEGER_LITERALS),
    "binary": (pa.binary(), BYTES, ["''::BLOB", "'ab'::BLOB", r"'\xFF'::BLOB"]),
    "fixed": (pa.binary(2), [b"ab", b"\x00\x00", b"\xff\xff"], ["'ab'::BLOB", "'a'::BLOB", r"'\xFF\xFF'::BLOB"]),
}
for unit, zone in [(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin")]:
    step = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}[unit]
    stored = [
        each.replace(microsecond=each.microsecond // step * step, tzinfo=dt.UTC if zone else None) for each in MOMENTS
    ]
    KINDS[f"timestamp_{unit}_{zone}"] = (pa.timestamp(unit, zone), stored, MOMENT_LITERALS)
INDEXABLE = [name for name, (data_type, _, _) in KINDS.items() if not pa.types.is_dictionary(data_type)]


@st.composite
def conditions(draw, column, literals):
    value = st.sampled_from(literals)
    forms = ["=", "<>", "<", "<=", ">", ">=", "IN", "NOT IN", "BETWEEN", "NULL", "DISTINCT", "turned", "LIKE", "bare"]
    form = draw(st.sampled_from(forms))
    maybe = draw(st.sampled_from(["", "NOT "]))
    if form in ("IN", "NOT IN"):
        return f"{column} {form} ({', '.join(draw(st.lists(value | st.just('NULL'), min_size=1, max_size=4)))})"
    if form == "BETWEEN":
        return f"{column} {maybe}BETWEEN {draw(value)} AND {draw(value)}"
    if form == "NULL":
        return f"{column} IS {maybe}NULL"
    if form == "DISTINCT":
        return f"{column} IS {maybe}DISTINCT FROM {draw(value | st.just('NULL'))}"
    if form == "turned":
        return f"{draw(value)} {draw(st.sampled_from(['=', '<', '<=', '>', '>=']))} {column}"
    if form == "LIKE" and literals is WORD_LITERALS:
        pattern = draw(st.sampled_from(["a%", "ab%", "%c", "a_c", "a%c", "", "%", "a\\%", "_", "ab"]))
        return draw(
            st.sampled_from([f"{column} {maybe}LIKE '{pattern}'", f"{maybe}starts_with({column}, '{pattern}')"])
        )
    if form == "bare" and literals == ["true", "false", "1=1"]:
        return draw(st.sampled_from([column, f"NOT {column}", f"{column} IS TRUE", f"{column} IS NOT FALSE"]))
    return f"{column} {form if form in '<>=!' else '='} {draw(value)}"


@st.composite
def predicates(draw):
    name = draw(st.sampled_from(sorted(KINDS)))
    literals = KINDS[name][2]
    columns = [f"plain_{name}", f"deep.{name}", f"deep['{name}']"] + [f"indexed_{name}"] * (name in INDEXABLE)
    condition = st.sampled_from(columns).flatmap(lambda column: conditions(column, literals))
    nested = st.recursive(
        condition,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            inner.map(lambda p: f"NOT ({p})"),
            inner.map(lambda p: f"({p} AND id % 2 = 0)"),  # in part what Lance is not told
            inner.map(lambda p: f"({p} OR id % 5 = 0)"),
        ),
        max_leaves=3,
    )
    return draw(nested)


ROWS = 120


ABSENT = [
    row % 9 == 0 for row in range(ROWS)
]  # the struct; DuckDB looks into some that are NULL, so the fields are too


def column(name, seed, absent=(False,) * ROWS):
    data_type, pool, _ = KINDS[name]
    rng = np.random.default_rng(seed)
    values = [None if rng.random() < 0.15 or gone else pool[rng.integers(len(pool))] for gone in absent]
    if pa.types.is_floating(data_type):  # through Arrow's doubles the sign of a NaN stays
        with np.errstate(over="ignore"):
            numbers = np.array([0 if v is None else v for v in values]).astype(data_type.to_pandas_dtype())
        return pa.array(numbers, data_type, mask=np.array([v is None for v in values]))
    return (
        pa.array(values, data_type.value_type).dictionary_encode().cast(data_type)
        if pa.types.is_dictionary(data_type)
        else pa.array(values, data_type)
    )


@pytest.fixture(scope="module")
def anything(tmp_path_factory):
    """A lake with a column of every type, plain, indexed, and in a struct that may be NULL; and the same in memory."""
    made = {"id": pa.array(range(ROWS), pa.int64())}
    for seed, name in enumerate(KINDS):
        made[f"plain_{name}"] = made[f"indexed_{name}"] = column(name, seed)
    plain = {name: column(name, 1000 + seed, ABSENT) for seed, name in enumerate(INDEXABLE)}
    plain |= {name: column(name, 2000, ABSENT).dictionary_decode() for name in KINDS if name not in INDEXABLE}
    made["deep"] = pa.StructArray.from_arrays(list(plain.values()), list(plain), mask=pa.array(ABSENT))
    made["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS * 256, np.float32)), 256)
    rows = pa.table(made)
    lake = lh.connect(tmp_path_factory.mktemp("anything"))
    table = lake.create_table("t", data=rows.take(list(range(50))))
    table.add(rows.take(list(range(50, ROWS))))  # a copy: Lance 14 does not take a slice of structs with NULLs
    for name in INDEXABLE:
        table.create_index(f"indexed_{name}", lh.BTree())
    table.delete("id IN (3, 60, 61)")
    held = rows.filter(pc.invert(pc.is_in(rows["id"], value_set=pa.array([3, 60, 61]))))
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'").fetchall()
    connection.register("t", held.cast(pa.schema([field.with_type(widened(field.type)) for field in held.schema])))
    yield lake, connection
    connection.close()


def widened(data_type):
    if pa.types.is_struct(data_type):
        return pa.struct([field.with_type(widened(field.type)) for field in data_type])
    return pa.float32() if pa.types.is_float16(data_type) else data_type


def answer(ask, statement, params):
    """The ids a statement finds, or that it is refused."""
    try:
        return sorted(ask(statement, params))
    except (LakehouseError, duckdb.Error):
        return "refused"


@settings(max_examples=50)
@given(where=predicates())
def test_lance_never_leaves_out_a_row_that_duckdb_keeps(anything, where):
    lake, connection = anything
    params = {"word": "abc"} if "$word" in where else None

    def ours(statement, given):
        return lake.sql(statement, given).arrow().column(0).to_pylist()

    def theirs(statement, given):
        return [row[0] for row in connection.execute(statement, given or {}).fetchall()]

    expected = answer(theirs, f"SELECT id FROM t WHERE {where}", params)
    assert answer(ours, f"SELECT id FROM t WHERE {where}", params) == expected
    wide = f"SELECT id FROM t WHERE ({where}) AND vector IS NOT NULL"  # for wide rows Lance filters without an index
    assert answer(ours, wide, params) == expected
    count = "refused" if expected == "refused" else [len(expected)]
    assert answer(ours, f"SELECT count(*) FROM t WHERE {where}", params) == count


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """20,000 rows with an index on a key and one on a category's text; three fragments, rows deleted."""
    lake = lh.connect(tmp_path_factory.mktemp("shelf"))
    names = ["red", "green", "blue", "gold"]
    rows = pa.table(
        {
            "id": [f"k{i:05}" for i in range(20_000)],
            "n": range(20_000),
            "color": [names[i % 100 // 33] for i in range(20_000)],
            "x": np.arange(20_000) / 7,
            "note": ["lorem ipsum " * 4] * 20_000,
            "box": pa.StructArray.from_arrays([pa.array(range(20_000))], ["w"]),
        }
    )
    table = lake.create_table("shelf", data=rows.slice(0, 10_000))
    table.add(rows.take(list(range(10_000, 15_000))))
    table.add(rows.take(list(range(15_000, 20_000))))
    for column in ("id", "n", "x"):
        table.create_index(column, lh.BTree())
    table.create_index("color", lh.Bitmap())
    table.delete("n % 1000 = 13")
    lake.create_table("picks", data=pa.table({"pick": ["k00007", "k00013", "nope"]}))
    return lake


def read_nbytes(lake, statement, params=None):
    """Bytes read the second time, when the footers and the index are known, and the rows."""
    snapshots = {name: lake.open_table(name).snapshot() for name in lake.table_names()}
    engine = Engine(lambda name: snapshots[name.name], lake.table_names, lh.SqlLimits(resident_nbytes=0))
    engine.query(statement, params).arrow()
    before = {name: each.dataset.io_stats_incremental() for name, each in snapshots.items()}
    rows = engine.query(statement, params).fetchall()
    nbytes = sum(each.dataset.io_stats_incremental().read_bytes for each in snapshots.values())
    engine.close()
    assert before
    return nbytes, rows


INDEXED = {
    "id = 'k00777'": "id_idx",
    "id = $id": "id_idx",
    "id IN ('k00777', 'k00778', 'nope')": "id_idx",
    "id LIKE 'k0077%'": "id_idx",
    "starts_with(id, 'k0077')": "id_idx",
    "id BETWEEN 'k00770' AND 'k00779'": "id_idx",
    "n + 1 = 778": "n_idx",
    "n BETWEEN 777 AND 778": "n_idx",
    "x >= 111.0 AND x < 111.2": "x_idx",
    "x = 'inf'::DOUBLE": "x_idx",
    "color = 'gold'": "color_idx",
    "color IN ('gold', 'black')": "color_idx",
}


@pytest.mark.parametrize("where", INDEXED)
def test_an_index_answers_and_explain_names_it(shelf, where):
    params = {"id": "k00777"} if "$" in where else None
    statement = f"SELECT id, n FROM shelf WHERE {where}"
    assert f"from the index {INDEXED[where]}" in shelf.sql(statement, params).explain()
    unindexed = (
        where.replace("id", "id || ''")
        .replace("$id || ''", "$id")
        .replace("n ", "n % 100000 ")
        .replace("color", "lower(color)")
        .replace("x ", "x * 1 ")
    )
    assert sorted(shelf.sql(statement, params).fetchall()) == sorted(
        shelf.sql(f"SELECT id, n FROM shelf WHERE {unindexed}", params).fetchall()
    )


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT a.note FROM shelf a JOIN shelf b ON a.id = b.id AND a.id = 'k00777'",
        "WITH s AS (SELECT * FROM shelf) SELECT note FROM s WHERE id = 'k00777'",
        "SELECT note FROM (SELECT id AS k, note FROM shelf) WHERE k = 'k00777'",
        "SELECT note FROM shelf WHERE n IN (777, 778) AND note LIKE 'lorem%'",
        "SELECT note FROM shelf WHERE n = 700 + 77 OR n = 12345",
    ],
)
def test_a_condition_reaches_the_index_through_joins_and_subqueries(shelf, statement):
    nbytes, rows = read_nbytes(shelf, statement)
    assert 1 <= len(rows) <= 2
    whole, _ = read_nbytes(shelf, "SELECT max(id), max(note) FROM shelf")
    assert nbytes < whole / 4
    assert "from the index" in shelf.sql(statement).explain()


def test_what_has_no_index_is_said_to_be_compared(shelf):
    plan = shelf.sql("SELECT id FROM shelf WHERE note = 'x'").explain()
    assert "`note` = 'x': no index, every row is compared" in plan


def test_a_count_reads_no_data_where_the_manifest_or_an_index_knows(shelf):
    assert read_nbytes(shelf, "SELECT count(*) FROM shelf") == (0, [(19_980,)])
    assert read_nbytes(shelf, "SELECT count(*) FROM shelf WHERE color = 'gold'") == (0, [(200,)])
    nbytes, rows = read_nbytes(shelf, "SELECT count(*) FROM shelf WHERE id > 'k19989' AND n < 19995")
    assert rows == [(5,)]
    assert nbytes == 0  # the pages of an index are kept
    by_scan, rows = read_nbytes(shelf, "SELECT count(*) FROM shelf WHERE box.w >= 10000")
    assert rows == [(9_990,)]
    assert by_scan < 20_000 * 8


def test_a_count_is_of_its_version_and_its_deletions(shelf):
    table = shelf.open_table("shelf")
    for version in range(1, table.version + 1):
        at = table.checkout(version)
        counted = shelf.sql("SELECT count(*) FROM shelf AT (VERSION => $v) WHERE n < 9999.5", {"v": version}).fetchall()
        assert counted == [(at.count_rows("n < 10000"),)]


COUNTS = [
    "SELECT count(*) FROM shelf WHERE n % 2 = 0",
    "SELECT count(*) FROM shelf WHERE n > 5 AND n % 2 = 0",
    "SELECT count(*) AS c, count(*) FROM shelf WHERE n > 5",
    "SELECT * FROM (SELECT count(*) AS n FROM shelf) WHERE n > 3",
    "SELECT count(*) FROM shelf, picks WHERE n < 2",
    "SELECT count(*) FILTER (WHERE n > 7) FROM shelf WHERE n < 20",
    "SELECT count(*) FROM shelf USING SAMPLE 10 ROWS",
    "SELECT count(*) FROM shelf GROUP BY color ORDER BY 1",
    "SELECT count(*) FROM shelf HAVING count(*) > 30000",
    "SELECT (SELECT count(*) FROM shelf s WHERE s.id = p.pick) FROM picks p ORDER BY pick",
    "SELECT pick FROM picks WHERE (SELECT count(*) FROM shelf WHERE id = pick) = 1",
    "SELECT count(*) FROM shelf LIMIT 0",
    "SELECT count(*) FROM shelf WHERE n IN (SELECT n FROM shelf WHERE n < 3)",
]


@pytest.mark.parametrize("statement", COUNTS)
def test_a_count_that_lance_cannot_give_alone_is_duckdbs(shelf, statement):
    held = {name: shelf.open_table(name).to_arrow() for name in shelf.table_names()}
    connection = duckdb.connect()
    for name, rows in held.items():
        connection.register(name, rows)
    assert shelf.sql(statement).fetchall() == connection.sql(statement).fetchall()
    assert shelf.sql(statement).schema.names == connection.sql(statement).columns
    connection.close()


def test_explain_says_which_index_a_search_uses(shelf, lake):
    rng = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(600 * 8, dtype=np.float32)), 8)
    table = lake.create_table("v", data=pa.table({"id": range(600), "word": ["red shoe"] * 600, "e": vectors}))
    nearest = "SELECT id FROM lance_vector_search('v', 'e', [0, 0, 0, 0, 0, 0, 0, 0]::FLOAT[8], k := 3)"
    words = "SELECT id FROM lance_fts('v', 'word', 'shoe')"
    assert "lance_vector_search on e: no index, every row is compared" in lake.sql(nearest).explain()
    table.create_index("e", lh.IvfPq(num_partitions=2))
    table.create_index("word", lh.FTS())
    assert "from the index e_idx (IVF_PQ)" in lake.sql(nearest).explain()
    assert "from the index word_idx (FTS)" in lake.sql(words).explain()


def test_an_index_is_used_for_few_rows_and_not_for_many(lake):
    rows = 120_000
    table = lake.create_table("t", data=pa.table({"n": range(rows), "kind": ["a", "b", "c", "d"] * (rows // 4)}))
    table.create_index("n", lh.BTree())
    table.create_index("kind", lh.Bitmap())
    for where, counted in {
        "n BETWEEN 10 AND 19": ("Lance answers (`n` >= 10) AND (`n` <= 19) from the index n_idx", 10),
        "n > 10": ("`n` > 10: too many rows for the index, every row is compared", rows - 11),
        "n = 10": ("from the index n_idx", 1),
        "kind = 'a'": ("too many rows for the index", rows // 4),
        "kind = 'e'": ("from the index kind_idx", 0),
    }.items():
        statement = f"SELECT max(n) IS NULL, count(n) FROM t WHERE {where}"
        assert counted[0] in lake.sql(statement).explain()
        assert lake.sql(statement).fetchall() == [(counted[1] == 0, counted[1])]


def test_wide_columns_are_read_for_the_rows_that_a_condition_keeps(lake):
    rng = np.random.default_rng(0)
    rows, width = 8_000, 256
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(rows * width, dtype=np.float32)), width)
    lake.create_table("shelf", data=pa.table({"n": range(rows), "e": vectors}))
    nbytes, answer = read_nbytes(lake, "SELECT sum(e[1]), count(*) FROM shelf WHERE n % 2000 = 7 OR n < 0")
    assert answer[0][1] == 4
    little, answer = read_nbytes(lake, "SELECT sum(e[1]), count(*) FROM shelf WHERE n IN (7, 2007, 4007, 6007)")
    assert answer[0][1] == 4
    assert little < nbytes / 20


VALUES = [
    5,
    5.0,
    5.5,
    "5",
    True,
    None,
    2**70,
    b"5",
    bytearray(b"5"),
    decimal.Decimal("5.00"),
    np.int8(5),
    np.float32(5),
]
VALUES += [
    dt.date(2024, 1, 1),
    dt.datetime(2024, 1, 1),
    dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    dt.time(3),
    float("nan"),
]
TYPED = ["int32", "uint64", "float32", "money", "date", "timestamp_us_UTC", "time64", "flag", "string", "binary"]


@pytest.mark.parametrize("name", TYPED)
def test_a_parameter_of_any_type_means_what_it_means_to_duckdb(anything, name):
    lake, connection = anything
    for value in VALUES:
        plain = value.item() if hasattr(value, "item") else bytes(value) if isinstance(value, bytearray) else value
        where = f"indexed_{name} >= $p"
        theirs = answer(
            lambda s, p: [row[0] for row in connection.execute(s, p).fetchall()],
            f"SELECT id FROM t WHERE {where}",
            {"p": plain},
        )
        for more in ("", " AND vector IS NOT NULL"):
            statement = f"SELECT id FROM t WHERE {where}{more}"
            assert answer(lambda s, p: lake.sql(s, p).arrow().column(0).to_pylist(), statement, {"p": value}) == theirs


@pytest.mark.parametrize("name", ["Größe", "select", "a b", 'q"uote', "'x'", "ID", "x-1", "日本", "null", "true"])
def test_names_of_columns_are_names_and_never_sql(lake, name):
    table = lake.create_table("t", data=pa.table({name: [1, 2, 3], "word": ["a", "b", "c"]}))
    quoted = '"' + name.replace('"', '""') + '"'
    statement = f"SELECT word FROM t WHERE {quoted} > 1 AND {quoted} <> 3"
    assert lake.sql(statement).fetchall() == [("b",)]
    assert lake.sql(f"SELECT count(*) FROM t x WHERE x.{quoted} = 2").fetchall() == [(1,)]
    table.create_index(name, lh.BTree())
    assert lake.sql(statement).fetchall() == [("b",)]
    assert lake.sql(statement).explain()


def test_a_column_that_was_renamed_keeps_its_index_and_its_old_name_is_refused(lake):
    table = lake.create_table("t", data=pa.table({"a": range(1000), "b": range(1000)}))
    table.create_index("a", lh.BTree())
    table.rename_column("a", "c")
    assert lake.sql("SELECT b FROM t WHERE c = 7").fetchall() == [(7,)]
    with pytest.raises(LakehouseError, match="a"):
        lake.sql("SELECT b FROM t WHERE a = 7").fetchall()


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("id = 'k1' OR {m} = 'b3'::BLOB", ["k1", "k3"]),
        ("NOT (id <> 'k1' AND {m} IN ('b0'::BLOB, 'b2'::BLOB))", ["k1", "k3", "k4"]),
        ("id = 'k1' OR {m} BETWEEN 'b3'::BLOB AND 'b4'::BLOB", ["k1", "k3", "k4"]),
        ("id = 'k1' OR {m} IS NULL", ["k1", "k5"]),
    ],
)
@pytest.mark.parametrize("medium", ["image", "video"])
def test_a_medium_beside_an_indexed_column_is_duckdbs_to_compare(lake, medium, where, ids):
    fields = [types.field("id", "string", nullable=False), types.field("image", "image"), types.field("video", "video")]
    table = lake.create_table("t", schema=pa.schema(fields))
    table.add([{"id": f"k{i}", "image": b"b%d" % i, "video": b"b%d" % i} for i in range(5)] + [{"id": "k5"}])
    table.create_index("id", lh.BTree())
    assert lake.sql(f"SELECT id FROM t WHERE {where.format(m=medium)} ORDER BY id").fetchall() == [(i,) for i in ids]
