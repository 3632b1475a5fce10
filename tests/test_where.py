import datetime as dt
from decimal import Decimal

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

import lakehouse as lh
from lakehouse.errors import FilterError, LakehouseError
from lakehouse.where import any_of, literal, quoted, render

moments = st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2100, 1, 1))
COLUMNS = {
    "s": (pa.string(), st.text(st.characters(exclude_characters="\0"), max_size=8)),
    "i": (pa.int64(), st.integers(-(2**63) + 1, 2**63 - 1)),
    "u": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "f": (pa.float64(), st.floats(allow_nan=False, width=64)),
    "b": (pa.bool_(), st.booleans()),
    "y": (pa.binary(), st.binary(max_size=8)),
    "d": (pa.date32(), st.dates(dt.date(1970, 1, 1), dt.date(2100, 1, 1))),
    "t": (pa.timestamp("us"), moments),
    "z": (pa.timestamp("us", "UTC"), moments.map(lambda moment: moment.replace(tzinfo=dt.UTC))),
    "n": (pa.decimal128(12, 3), st.decimals(-1000, 1000, places=3, allow_nan=False, allow_infinity=False)),
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return lh.connect(tmp_path_factory.mktemp("lake"))


@pytest.mark.parametrize("name", COLUMNS)
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_parameter_finds_exactly_the_rows_that_hold_it(lake, name, data):
    data_type, strategy = COLUMNS[name]
    held = data.draw(st.lists(strategy, min_size=1, max_size=6))
    other = data.draw(strategy)
    table = lake.create_table(f"t{len(lake.table_names())}", data=pa.table({name: pa.array(held, data_type)}))
    for value in [*held, other]:
        assert table.count_rows((f"{name} = $value", {"value": value})) == held.count(value)
    assert table.count_rows((f"{name} IN $values", {"values": held[:2]})) == sum(v in held[:2] for v in held)
    lake.drop_table(table.name)


@given(st.text(max_size=20))
def test_no_value_becomes_syntax(value):
    rendered = render(("a = $v AND b = 'it''s $v'", {"v": value}))
    assert rendered == f"(a = {literal(value)} AND b = 'it''s $v')"
    assert render(rendered) == f"({rendered})"  # one quoted run: nothing in it ends it, is a parameter or a comment


@pytest.mark.parametrize("text", ["a = 1; DELETE", "a = 1 -- rest", "a = 1 /* rest */"])
def test_what_lances_parser_would_drop_is_refused(text):
    with pytest.raises(FilterError, match="one expression without comments"):
        render(text)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("  ", "empty"),
        (("a = $nmae", {"name": 1}), r"no value for \$nmae.*did you mean 'name'"),
        (("a = $x", {"x": 1, "y": 2}), r"\$y is given but not used"),
        (("a = $x", {"x": object()}), "type object"),
        (("a = $x", {"x": {"b": 1}}), "type dict"),
        (("a IN $x", {"x": []}), "empty list"),
        (("a = $x", {"x": Decimal("NaN")}), "type Decimal"),
        (5, "a pair"),
        (("a = $x", 3), "a pair"),
    ],
)
def test_mistakes_are_named(where, message):
    with pytest.raises(FilterError, match=message):
        render(where)


def test_numpy_scalars_are_values():
    assert [literal(v) for v in (np.int8(3), np.float32(0.5), np.bool_(True), np.str_("a"))] == [
        "3",
        "0.5",
        "true",
        "'a'",
    ]


def test_nan_and_infinity_are_found(lake):
    table = lake.create_table("floats", data=pa.table({"f": [float("nan"), float("inf"), 1.0]}))
    assert table.count_rows(("f = $v", {"v": float("inf")})) == 1
    assert table.count_rows(("f = $v", {"v": float("nan")})) == 1


def test_any_name_can_be_quoted(lake):
    name = 'it\'s a `name` "here"'
    table = lake.create_table("names", data=pa.table({"x": [1, 2]}))
    table.rename_column("x", name.replace("`", ""))
    assert table.count_rows(f"{quoted(table.schema.names[0])} = 1") == 1
    assert table.count_rows(any_of(table.schema.names[0], [1, 2, 3])) == 2


def test_a_columns_name_in_the_quotes_of_a_word_is_refused_wherever_sql_is_taken(tmp_path):
    """Lance reads a word there, `lake.sql` the column: rows that were never meant would be deleted."""
    table = lh.connect(tmp_path / "own").create_table("t", data=[{"Group": "a", "x": 1}, {"Group": "b", "x": 7}])
    table.add_columns({"y": "x * 2"})
    where = "\"group\" = 'a'"
    calls = (
        lambda: table.delete(where),
        lambda: table.update(where, {"x": 0}),
        lambda: table.update(values_sql={"x": 'length("Group")'}),
        lambda: table.add_columns({"z": 'length("Group")'}),
        lambda: table.backfill("y", where=where, progress=False),
        lambda: table.count_rows(where),
        lambda: table.to_arrow(where=where),
        lambda: table.search("a", "Group", where=where),
        lambda: table.loader(columns=["x"], where=where),
    )
    for call in calls:
        with pytest.raises(FilterError, match="`[Gg]roup` for the column"):
            call()
    assert table.count_rows('`Group` = "a" AND x = 1') == table.count_rows("Group = 'a'") == 1


@pytest.mark.parametrize("behind", [" x < 9", ", 5", " LIMIT 0", ") OR (true", "; DROP", " -- all"])
def test_text_behind_an_expression_is_refused_wherever_one_is_taken(tmp_path, behind):
    """Lance reads one expression and drops the rest: a forgotten AND would delete more than was meant."""
    table = lh.connect(tmp_path / "own").create_table("t", data=[{"x": 1}, {"x": 7}, {"x": 8}])
    calls = (
        lambda: table.delete(f"x > 5{behind}"),
        lambda: table.update(f"x > 5{behind}", {"x": 0}),
        lambda: table.update(values_sql={"x": f"x + 1{behind}"}),
        lambda: table.add_columns({"y": f"x * 2{behind}"}),
        lambda: table.count_rows(f"x > 5{behind}"),
        lambda: table.loader(where=f"x > 5{behind}"),
    )
    for call in calls:
        with pytest.raises(LakehouseError):
            call()
    assert table.to_arrow().to_pydict() == {"x": [1, 7, 8]}
