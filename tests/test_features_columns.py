import dataclasses
import threading
from pathlib import Path

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse._lance import lance
from lakehouse.errors import (
    AlreadyExistsError,
    ColumnNotFoundError,
    FilterError,
    InvalidArgumentError,
    SchemaError,
)
from lakehouse.features.udfs import expressions
from lakehouse.schema.lineage import features_of


@lh.udf(pa.int64(), version="1")
def double(x: int) -> int:
    return 2 * x


@lh.udf({"two": pa.int64(), "three": pa.int64()}, version="1")
def multiples(x: int) -> tuple[int, int]:
    return 2 * x, 3 * x


@pytest.fixture
def table(lake):
    made = lake.create_table(
        "t",
        schema=lh.Schema.parse(
            'name = "t"\nkey = "id"\n[columns]\nid = { type = "int64", nullable = false }\nx = { type = "int64" }\n'
            'y = { type = "int64" }\nname = { type = "string" }'
        ),
    )
    made.add([{"id": n, "x": n, "y": 10 * n, "name": f"n{n}"} for n in range(5)])
    return made


def fill(table, *args, **options):
    return table.backfill(*args, progress=False, **options)


def data_files(table):
    return sorted(Path(table.uri, "data").rglob("*"))


# Declaring


def test_declaring_touches_no_data_file_and_again_does_nothing(table):
    before = data_files(table)
    new = {"d": double, "area": "x * y", "note": pa.field("note", pa.string()), "m": multiples}
    version = table.add_columns(new)
    assert data_files(table) == before
    assert table.add_columns(new) == version == table.version
    assert table.schema.names == ["id", "x", "y", "name", "d", "area", "note", "two", "three"]
    assert [str(table.schema.field(n).type) for n in ("d", "area", "note")] == ["int64", "int64", "string"]
    assert table.features()["column"].to_pylist() == ["d", "area", "two", "three"]


def test_the_record_says_who_made_it_from_what(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    table.add_columns({"d": double})
    feature = table.snapshot().features["d"]
    assert (feature.owner, feature.kind, feature.generation, feature.called) == ("ada", "udf", 1, ("x",))
    assert feature.source == f"{__name__}:double"
    assert feature.code_hash == double.code_hash
    assert features_of(pa.schema(list(table.snapshot().physical)))["d"] == feature


@pytest.mark.parametrize(
    ("new", "error", "message"),
    [
        ({}, InvalidArgumentError, "no columns to add"),
        ({"x": double}, AlreadyExistsError, "'x' is a column of the table already"),
        ({"d": lambda x: x}, InvalidArgumentError, "decorate it with"),
        ({"d": lh.udf(pa.int64())(lambda widht: widht)}, ColumnNotFoundError, "no column 'widht'"),
        ({"d": "x +"}, InvalidArgumentError, r"x \+"),
        ({"d": "widht + 1"}, (FilterError, ColumnNotFoundError), "widht"),
        ({"a.b": "x"}, SchemaError, "holds a dot"),
        ({"d__stamp": "x"}, SchemaError, "reserved"),
        ({"d": pa.field("d", pa.int32(), nullable=False)}, SchemaError, "must be nullable"),
        ({"d": 7}, InvalidArgumentError, "is no function"),
    ],
)
def test_mistakes_declare_nothing(table, new, error, message):
    version = table.version
    with pytest.raises(error, match=message):
        table.add_columns({"fine": "x", **new} if new else new)
    assert table.version == version


def test_another_function_under_a_name_that_is_taken_names_the_ways_out(table):
    table.add_columns({"d": double})
    other = lh.udf(pa.int64(), version="2")(lambda x: x)
    with pytest.raises(AlreadyExistsError, match=r"alter_udf\('d'.*accept\('d'"):
        table.add_columns({"d": other})
    with pytest.raises(AlreadyExistsError, match="is a feature already"):
        table.add_columns({"d": "x * 2"})


def test_a_column_of_media_or_category_is_stored_as_one(table):
    fields = lh.Schema.parse(
        'name = "t"\n[columns]\nthumb = { type = "image" }\nclip = { type = "video" }\n'
        'kind = { type = "category", values = ["a", "b"] }'
    ).to_arrow()
    table.add_columns({field.name: field for field in fields})
    table.add([{"id": 9, "thumb": b"t", "clip": b"c" * 100_000, "kind": "b"}])
    row = table[9]
    assert (row["thumb"].read(), row["clip"].read(), row["kind"]) == (b"t", b"c" * 100_000, "b")
    assert table.snapshot().physical.field("thumb").metadata[b"lance-encoding:compression"] == b"none"
    assert table.get([1], ["thumb", "clip", "kind"]).to_pylist() == [{"thumb": None, "clip": None, "kind": None}]


def test_many_who_declare_at_once_all_get_their_column(lake, table):
    def declare(n):
        own = lake.open_table("t")
        own.add_columns({f"f{n % 6}": f"x + {n % 6}"})

    threads = [threading.Thread(target=declare, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(table.snapshot().features) == [f"f{n}" for n in range(6)]


def test_a_stamp_left_behind_by_others_does_not_bar_the_name(table):
    table.add_columns({"d": double})
    fill(table, "d", udf=double)
    lance.dataset(table.uri).drop_columns(["d"])
    assert (table.schema.names, table.features().num_rows) == (["id", "x", "y", "name"], 0)
    table.add_columns({"d": "x + 7"})
    fill(table, "d")
    assert table.to_arrow(["d"])["d"].to_pylist() == [7, 8, 9, 10, 11]


def test_columns_of_one_call_may_be_computed_from_one_another_in_any_order(table):
    version = table.version
    new = {
        "large": "area > 30",
        "d": lh.udf(pa.int64(), version="1")(lambda area: 2 * area),
        "both": lh.udf({"p": pa.list_(pa.float32(), 2), "q": pa.struct([("a", pa.int8())])}, version="1")(
            lambda d: ([d, d], {"a": 1})
        ),
        "last": "p[1] > 1 AND q.a = 1 AND note IS NULL",
        "note": pa.field("note", pa.string()),
        "area": "x * y",
    }
    assert table.add_columns(new) == version + 1
    assert table.add_columns(new) == version + 1
    inputs = {row["column"]: row["inputs"] for row in table.features().to_pylist()}
    assert inputs == {
        "area": ["x", "y"],
        "large": ["area"],
        "d": ["area"],
        "p": ["d"],
        "q": ["d"],
        "last": ["p", "q", "note"],
    }
    assert [str(table.schema.field(name).type) for name in ("area", "large", "last")] == ["int64", "bool", "bool"]
    for column in ("area", "large"):
        fill(table, column)
    assert table.to_arrow(["large"])["large"].to_pylist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"a": "b + 1", "b": "a + 1"}, "a, b are computed from one another"),
        ({"a": "a + 1"}, "a are computed from one another"),
        ({"m": multiples, "two": "x * 2"}, "'two' is given twice"),
    ],
)
def test_columns_of_one_call_that_contradict_one_another_declare_nothing(table, new, message):
    version = table.version
    with pytest.raises(SchemaError, match=message):
        table.add_columns(new)
    assert table.version == version


# Dropping


def test_dropping_a_feature_takes_its_stamp_failures_and_checkpoints(table, tmp_path):
    @lh.udf(pa.int64(), version="1")
    def failing(x: int) -> int:
        raise ValueError(x)

    table.add_columns({"d": failing})
    fill(table, "d", udf=failing)
    assert table.errors().num_rows == 5
    table.drop_columns(["d"])
    assert table.snapshot().physical.names == ["id", "x", "y", "name"]
    assert table.errors().num_rows == 0
    table.add_columns({"d": "x"})
    assert table.features()["state"].to_pylist() == ["declared"]


def test_what_others_are_computed_from_stays(table):
    table.add_columns({"d": double})
    table.add_columns({"e": "d + 1"})
    for names, message in ((["x"], "'x' is an input of d"), (["d"], "'d' is an input of e"), (["id"], "is the key")):
        with pytest.raises(SchemaError, match=message):
            table.drop_columns(names)
    with pytest.raises(ColumnNotFoundError):
        table.drop_columns(["nope"])
    table.drop_columns(["x", "e", "d"])
    assert table.snapshot().physical.names == ["id", "y", "name"]


def test_outputs_that_are_filled_together_are_dropped_together(table):
    table.add_columns({"m": multiples})
    with pytest.raises(SchemaError, match="two, three are filled together"):
        table.drop_columns(["three"])
    table.drop_columns(["two", "three"])
    assert table.schema.names == ["id", "x", "y", "name"]


def test_a_cascade_takes_what_is_computed_from_it_and_says_so(table):
    table.add_columns({"m": multiples, "e": "two + 1", "f": "e + three", "other": "y + 1"})
    with pytest.raises(SchemaError, match=r"'x' is an input of two; .*cascade=True"):
        table.drop_columns(["x"])
    dropped = table.drop_columns(["x"], cascade=True)
    assert (dropped.version, dropped.columns) == (table.version, ("x", "two", "three", "e", "f"))
    assert table.schema.names == ["id", "y", "name", "other"]
    assert not any(name.endswith("__stamp") for name in table.snapshot().physical.names if not name.startswith("other"))


def test_a_cascade_sees_what_was_declared_at_the_last_moment(table, monkeypatch):
    real = lance.LanceDataset.drop_columns
    table.add_columns({"d": "x + 1"})

    def drop(dataset, names):
        monkeypatch.setattr(lance.LanceDataset, "drop_columns", real)
        table.add_columns({"e": "d + 1"})
        return real(dataset, names)

    monkeypatch.setattr(lance.LanceDataset, "drop_columns", drop)
    assert table.drop_columns(["x"], cascade=True).columns == ("x", "d", "e")


def test_a_column_that_was_renamed_at_the_last_moment_is_not_passed_over(table, monkeypatch):
    snapshot = table.snapshot()
    table.rename_column("x", "xx")
    monkeypatch.setattr(type(table), "_writable", lambda _: snapshot)
    with pytest.raises(ColumnNotFoundError, match="'x' was renamed 'xx' at this moment"):
        table.drop_columns(["y", "x"])
    assert table.schema.names == ["id", "xx", "y", "name"]


# Renaming


def test_a_renamed_feature_stays_what_it_is(table):
    table.add_columns({"m": multiples})
    table.add_columns({"sum": "two + three"})
    fill(table, "m", udf=multiples)
    fill(table, "sum")
    table.rename_column("two", "zwei")
    table.rename_column("three", "drei")
    table.rename_column("x", "ex")
    assert set(table.features()["state"].to_pylist()) == {"fresh"}
    table.add([{"id": 9, "ex": 9, "y": 0}])
    fill(table, "zwei", udf=multiples)
    fill(table, "sum")
    assert table.get([9], ["zwei", "drei", "sum"]).to_pylist() == [{"zwei": 18, "drei": 27, "sum": 45}]
    table.update("id = 1", {"ex": 100})
    assert set(table.features()["state"].to_pylist()) == {"stale(inputs)"}


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [("nope", "a", ColumnNotFoundError), ("x", "y", AlreadyExistsError), ("x", "a.b", SchemaError)],
)
def test_renames_that_cannot_be(table, old, new, error):
    with pytest.raises(error):
        table.rename_column(old, new)


# Changed functions


def test_altering_with_the_same_function_changes_nothing(table):
    table.add_columns({"d": double})
    fill(table, "d", udf=double)
    version = table.version
    assert table.alter_udf("d", double) == version
    assert table.features()["state"].to_pylist() == ["fresh"]


def test_an_accepted_function_takes_the_place_of_the_old_one(table):
    table.add_columns({"d": double})
    fill(table, "d", udf=double)
    same = lh.udf(pa.int64(), version="2")(lambda x: x + x)
    table.accept("d", same)
    assert table.features().select(["state", "version"]).to_pylist() == [{"state": "fresh", "version": 1}]
    assert fill(table, "d", udf=same).num_rows == 0


def test_after_an_alteration_the_old_values_can_be_declared_right(lake, table):
    from lakehouse.features.evolution import revisions

    table.add_columns({"d": double})
    with pytest.raises(SchemaError, match="never altered"):
        revisions.accept(table.snapshot(), "d")
    fill(table, "d", udf=double, where="id < 3")
    table.alter_udf("d", newer := lh.udf(pa.int64(), version="2")(lambda x: x + x))
    assert table.features()["state"].to_pylist() == ["stale(code)"]
    revisions.accept(table.snapshot(), "d")
    assert table.features().select(["state", "coverage"]).to_pylist() == [{"state": "partial", "coverage": 0.6}]
    assert fill(table, "d", udf=newer).num_rows == 2
    assert table.features()["state"].to_pylist() == ["fresh"]


def test_what_others_made_doubtful_can_be_declared_right(table):
    table.add_columns({"area": "x * y", "d": double})
    fill(table, "area")
    lance.dataset(table.uri).update({"x": "x"}, where="id < 3")
    assert table.features()["state"].to_pylist() == ["unverified", "declared"]
    table.accept("area")
    assert table.features()["state"].to_pylist() == ["fresh", "declared"]
    with pytest.raises(SchemaError, match="nothing to accept"):
        table.accept("area")


def test_another_type_or_other_inputs_are_another_column(table):
    table.add_columns({"d": double})
    with pytest.raises(SchemaError, match="'d' is int64, the function gives float"):
        table.alter_udf("d", lh.udf(pa.float32())(lambda x: x))
    with pytest.raises(SchemaError, match="computed from x, the function takes y"):
        table.alter_udf("d", lh.udf(pa.int64())(lambda y: y))
    with pytest.raises(SchemaError, match="'x' is not computed by a function"):
        table.alter_udf("x", double)
    with pytest.raises(ColumnNotFoundError):
        table.alter_udf("nope", double)
    with pytest.raises(InvalidArgumentError, match="decorate it"):
        table.alter_udf("d", lambda x: x)


def test_a_function_that_only_moved_is_found_at_its_new_place(table):
    table.add_columns({"d": double})
    fill(table, "d", udf=double)
    table.alter_udf("d", dataclasses.replace(double, name="elsewhere:double"))
    assert table.snapshot().features["d"].source == "elsewhere:double"
    assert table.features()["state"].to_pylist() == ["fresh"]


# Expressions


@pytest.mark.parametrize(
    ("expression", "inputs"),
    [
        ("x * 2 + y", ("x", "y")),
        ("X + `y`", ("x", "y")),
        ("upper(name) || ' x '", ("name",)),
        ('"name" || name', ("name",)),
        ("1", ()),
    ],
)
def test_inputs_of_an_expression_are_the_columns_it_names(expression, inputs):
    assert expressions.expression_inputs(expression, ["x", "y", "name"]) == inputs
