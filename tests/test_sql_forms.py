"""Columns held in DuckDB's own forms are the same values, and answers over them the same answers."""

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.sql.scans.forms import compact, compact_type

TEXTS = [pa.string(), pa.large_string()]
DECIMALS = [pa.decimal128(digits, scale) for digits, scale in ((1, 0), (4, 4), (5, 2), (9, 0), (10, 3), (18, 18))]
QUESTIONS = [
    "SELECT word, few, many, price, cents FROM t",
    "SELECT few, word, count(*) AS n, sum(price) AS p FROM t GROUP BY ALL ORDER BY ALL",
    "SELECT count(*) AS n FROM t WHERE few = 'b' OR few IN ('a', '') OR few LIKE '%c'",
    "SELECT count(*) AS n FROM t WHERE few IS NULL AND price IS NOT NULL",
    "SELECT few, count(DISTINCT many) AS m, min(few) AS l, max(price) AS h, avg(cents) AS a FROM t GROUP BY ALL ORDER BY ALL",
    "SELECT count(*) AS n, sum(a.cents) AS s FROM t a JOIN t b ON a.few = b.word AND a.price = b.price",
    "SELECT few || '!' AS f, upper(word) AS u, price * 2 AS p, cents / 3 AS c FROM t ORDER BY id",
    "SELECT few, row_number() OVER (PARTITION BY few ORDER BY price DESC, id) AS r FROM t ORDER BY id",
    "SELECT word FROM t WHERE price > 3.5 AND cents BETWEEN -10 AND 2.5 UNION SELECT few FROM t ORDER BY 1",
    "SELECT many, few FROM t WHERE id < 40 EXCEPT SELECT few, many FROM t",
    "SELECT few FROM t ORDER BY few DESC NULLS LAST, id LIMIT 7",
]


def decimals(data_type):
    most = 10**data_type.precision - 1
    return st.none() | st.integers(-most, most).map(lambda n: Decimal(n).scaleb(-data_type.scale))


@st.composite
def columns(draw):
    """Columns of few and many different values, in chunks, some of them slices."""
    data_type = draw(st.sampled_from([*TEXTS, *DECIMALS, pa.int64()]))
    one = st.none() | st.text(max_size=3)
    if pa.types.is_decimal(data_type):
        one = decimals(data_type)
    if data_type == pa.int64():
        one = st.none() | st.integers(-5, 5)
    values = draw(st.lists(st.lists(one, max_size=30), max_size=4))
    times = draw(st.sampled_from([1, 20]))
    whole = pa.chunked_array([pa.array(chunk * times, data_type) for chunk in values], data_type)
    return whole.slice(draw(st.integers(0, 3)))


@given(columns())
def test_another_form_has_the_same_values(values):
    held = compact(values)
    assert held.type in (values.type, compact_type(values.type))
    assert held.cast(values.type).equals(values)


@given(columns())
def test_any_values_can_be_given_the_form_that_others_have(values):
    form = compact_type(values.type)
    assert form is None or values.cast(form).cast(values.type).equals(values)


def test_texts_that_repeat_and_decimals_of_few_digits_take_less_memory():
    texts = pa.chunked_array([[f"one of {n % 100} words" for n in range(10_000)]])
    prices = pa.chunked_array([pa.array([Decimal(n) for n in range(10_000)], pa.decimal128(18, 2))])
    assert compact(texts).nbytes < texts.nbytes / 2
    assert compact(prices).nbytes < prices.nbytes * 0.6
    assert compact(pa.chunked_array([[str(n) for n in range(10_000)]])).type == pa.string()


def rows(start, stop, num_words=20):
    return [
        {
            "id": i,
            "word": f"word {i % num_words}",
            "few": ("a", "b", None, "", "çc")[i % 5],
            "many": f"{i * 7919 % 10_007}",
            "price": None if i % 7 == 0 else Decimal(i % 800).scaleb(-2),
            "cents": Decimal(i % 90 - 45).scaleb(-1),
        }
        for i in range(start, stop)
    ]


SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("word", pa.string()),
        ("few", pa.string()),
        ("many", pa.large_string()),
        ("price", pa.decimal128(15, 2)),
        ("cents", pa.decimal128(4, 1)),
    ]
)


def table_of(lake):
    table = lake.create_table("t", data=pa.Table.from_pylist(rows(0, 1_000), SCHEMA))
    table.add(pa.Table.from_pylist(rows(1_000, 1_600), SCHEMA), progress=False)
    table.delete("id % 11 = 3")
    return table


@pytest.fixture
def plain(tmp_path):
    """The same lake without memory of columns."""
    return lh.connect(tmp_path / "lake", sql_limits=lh.SqlLimits(resident_nbytes=0))


def asked(lake, question):
    answer = lake.sql(question).arrow()
    return answer.schema, sorted(map(repr, answer.to_pylist()))


def test_answers_are_the_same_whatever_is_held(tmp_path, plain):
    kept = lh.connect(tmp_path / "lake")
    table = table_of(kept)
    for _ in range(2):
        for question in QUESTIONS:
            want = asked(plain, question)
            assert asked(kept, question) == want  # some columns are read now, some are held
            assert asked(kept, question) == want
        # Too many words for a dictionary, in this fragment only.
        table.add(pa.Table.from_pylist(rows(2_000, 6_000, num_words=4_000), SCHEMA), progress=False)


def test_what_is_given_up_after_a_statement_was_planned_is_read_again(tmp_path, plain):
    lake = lh.connect(tmp_path / "lake", sql_limits=lh.SqlLimits(resident_nbytes=40_000))
    table_of(lake)
    question = "SELECT few, sum(price) AS s FROM t GROUP BY few ORDER BY few"
    lake.sql(question).arrow()
    planned = lake.sql(question)
    for other in ("word", "id", "cents", "id", "word"):
        lake.sql(f"SELECT max({other}) FROM t").arrow()
    assert planned.arrow().equals(plain.sql(question).arrow())


def test_an_index_answers_over_columns_that_are_held(tmp_path, plain):
    lake = lh.connect(tmp_path / "lake")
    table = table_of(lake)
    table.create_index("few", lh.Bitmap())
    table.create_index("many", lh.BTree())
    for question in (
        "SELECT id, price, few FROM t WHERE many = '7919'",
        "SELECT id, few, cents FROM t WHERE few = 'b'",
    ):
        for _ in range(2):
            lake.sql("SELECT max(few), max(many), max(price), max(cents), max(id) FROM t").arrow()
            assert asked(lake, question) == asked(plain, question)
