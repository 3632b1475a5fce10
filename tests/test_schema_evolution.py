"""Plans from a table to a schema: the law, the refusals, and what a plan says."""

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lakehouse import types
from lakehouse.errors import SchemaError
from lakehouse.schema import Column, Schema
from lakehouse.schema.evolution import AddColumn, AllowNull, DropColumn, RenameColumn, SetMetadata, apply, plan
from lakehouse.types import Type
from tests import schema_strategies

ID = Column("id", "string", nullable=False)


def schema(*columns, key="id", drop=()):
    return Schema("pets", key, (ID, *columns) if key else columns, drop)


def table(*columns, extra=(), key="id"):
    arrow = schema(*columns, key=key).to_arrow()
    return pa.schema([*arrow, *extra], arrow.metadata)


@st.composite
def evolutions(draw):
    """A table with columns of others, and a schema of the table's columns after some edits."""
    old = draw(schema_strategies.schemas())
    fresh = draw(st.lists(schema_strategies.columns, max_size=4, unique_by=lambda column: column.name))
    fresh = [dataclasses.replace(column, nullable=True) for column in fresh if column.name not in old.names]
    extra = [fresh.pop().to_field() for _ in range(draw(st.integers(0, len(fresh))))]
    columns, drop = [], []
    for column in old.columns:
        edit = draw(st.sampled_from(["keep", "forget", "drop", "rename", "doc", "unit", "values", "null"]))
        if edit == "rename" and fresh:
            column = dataclasses.replace(column, name=fresh.pop().name, renamed_from=column.name)
        elif edit == "doc":
            column = dataclasses.replace(column, doc=draw(schema_strategies.said))
        elif edit == "unit":
            column = dataclasses.replace(column, unit=draw(schema_strategies.said))
        elif edit == "values" and column.type.values:
            more = [word for word in draw(st.sets(schema_strategies.words)) if word not in column.type.values]
            column = dataclasses.replace(column, type=Type("category", (*column.type.values, *more)))
        elif edit == "null" and column.name != old.key:
            column = dataclasses.replace(column, nullable=True)
        elif edit == "drop" and column.name != old.key:
            drop.append(column.name)
            continue
        elif edit == "forget" and column.name != old.key:
            continue
        columns.append(column)
    columns += fresh
    assume(columns)
    key = next((c.name for c in columns if old.key in (c.name, c.renamed_from)), None) if old.key else None
    arrow = old.to_arrow()
    columns = draw(st.permutations(columns))
    return pa.schema([*arrow, *extra], arrow.metadata), Schema("new", draw(st.sampled_from([key, None])), columns, drop)


@given(evolutions())
def test_applying_a_plan_reaches_the_schema_and_leaves_nothing_to_do(case):
    current, wanted = case
    steps = plan(current, wanted)
    reached = apply(current, steps)
    for column in wanted.columns:
        field = reached.field(column.name)
        assert dataclasses.replace(column, renamed_from=None) == Column.from_field(field)
    assert not set(wanted.drop) & set(reached.names)
    again = plan(reached, wanted)
    assert again.is_empty
    assert not again
    assert apply(reached, again) == reached


@given(evolutions())
def test_what_a_schema_does_not_name_is_left_as_it_is(case):
    current, wanted = case
    steps = plan(current, wanted)
    reached = apply(current, steps)
    touched = {*wanted.names, *wanted.drop, *(c.renamed_from for c in wanted.columns)}
    untouched = [field for field in current if field.name not in touched]
    assert [field.name for field in untouched] == list(steps.unmanaged)
    for field in untouched:
        assert reached.field(field.name).equals(field, check_metadata=True)
    assert types.key_of(reached) is not None or types.key_of(current) is None


@given(evolutions())
def test_only_drops_are_destructive_and_they_come_last(case):
    steps = list(plan(*case))
    effects = [step.effect for step in steps]
    assert effects == sorted(effects, reverse=True)
    assert [step for step in steps if step.effect == "destructive"] == [s for s in steps if isinstance(s, DropColumn)]


@given(schema_strategies.schemas(), schema_strategies.schemas())
def test_any_two_schemas_give_a_plan_or_a_schema_error(old, new):
    current = old.to_arrow()
    try:
        steps = plan(current, new)
    except SchemaError:
        return
    assert plan(apply(current, steps), new).is_empty


@given(schema_strategies.schemas())
def test_a_tables_own_file_with_three_features_on_it_plans_nothing(own):
    assume(not {"phash", "area", "embedding"} & set(own.names))
    features = [
        types.field("phash", "uint64"),
        types.field("area", "int64"),
        types.field("embedding", "vector<float32>[8]"),
    ]
    current = pa.schema([*own.to_arrow(), *features], own.to_arrow().metadata)
    found = plan(current, Schema.parse(own.to_toml()), features={"phash", "area", "embedding"})
    assert found.is_empty
    assert found.features == ("phash", "area", "embedding")
    assert found.unmanaged == ()


def test_each_kind_of_step_is_planned_in_order():
    before = table(
        Column("time", "int64"), Column("old", "int8"), Column("n", "int8", nullable=False), Column("w", "int32")
    )
    after = schema(
        Column("taken_at", "int64", renamed_from="time"),
        Column("n", "int8"),
        Column("w", "int32", unit="px"),
        Column("note", "text"),
        drop=["old"],
    )
    found = plan(before, after, nbytes={"old": 1_200_000}, manifest_nbytes=700)
    assert [type(step) for step in found] == [RenameColumn, AllowNull, SetMetadata, AddColumn, DropColumn]
    assert [step.column for step in found] == ["time", "n", "w", "note", "old"]
    assert (found.nbytes_read, found.nbytes_written) == (0, 3500)
    assert found.is_destructive
    assert str(found) == (
        "plan for pets: 5 steps, 0 bytes read, 3.5 kB written\n"
        "  step        column  effect       what\n"
        "  rename      time    safe         to taken_at\n"
        "  allow null  n       safe         no longer NOT NULL\n"
        "  set         w       safe         unit = px\n"
        "  add         note    safe         text; NULL in the rows there are\n"
        "  drop        old     destructive  its values, 1.2 MB, stay in older versions until vacuum"
    )


def test_an_empty_plan_says_so_and_names_what_it_leaves_alone():
    current = table(extra=[pa.field("phash", pa.uint64()), pa.field("note", pa.string())])
    assert str(plan(current, schema(), table="dogs", features=["phash"])) == (
        "plan for dogs: nothing to do\nfeatures, left alone: phash\nnot in the schema, left alone: note"
    )


def test_changes_that_were_made_before_are_notes():
    wanted = schema(
        Column("taken_at", "int64", renamed_from="time"), Column("x", "int8", renamed_from="xx"), drop=["odl"]
    )
    current = table(Column("taken_at", "int64"), Column("time", "int8"), Column("old", "int8"))
    found = plan(current, wanted)
    assert [step.column for step in found] == ["x"]
    assert found.notes == (
        "rename time to taken_at: taken_at is there already",
        "rename xx to x: no column 'xx'",
        "drop odl: no column 'odl'; did you mean 'old'?",
    )
    assert found.unmanaged == ("time", "old")


def test_new_values_of_a_category_go_behind_the_old_ones():
    current = table(Column("split", Type("category", ("train", "val"))))
    found = plan(current, schema(Column("split", Type("category", ("train", "val", "test")))))
    assert types.category_values(apply(current, found).field("split")) == ["train", "val", "test"]
    assert not found.is_destructive


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("train", "test"), "append-only, 'val' cannot be taken out"),
        (("val", "train"), "new ones go behind 'train', 'val' in this order"),
        (("test", "train", "val"), "new ones go behind 'train', 'val' in this order"),
    ],
)
def test_values_of_a_category_neither_go_nor_move(values, message):
    current = table(Column("split", Type("category", ("train", "val"))))
    with pytest.raises(SchemaError, match=f"column 'split': values are {message}|column 'split'.*{message}"):
        plan(current, schema(Column("split", Type("category", values))))


def test_bytes_that_are_there_can_be_called_an_image():
    current = table(Column("image", "large_binary"), Column("text", "large_string"))
    found = plan(current, schema(Column("image", "image"), Column("text", "text")))
    reached = apply(current, found)
    assert [type(step) for step in found] == [SetMetadata, SetMetadata]
    assert (types.media_kind(reached.field("image")), types.media_kind(reached.field("text"))) == ("image", "text")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("int32", "int64", "holds int32 and cannot become int64; add a column of the new type"),
        ("string", "text", "holds string and cannot become text"),
        ("string", Type("category", ("a",)), "holds string and cannot become category"),
        ("dictionary<int32, string>", Type("category", ("a",)), "cannot become category"),
        ("large_binary", "video", "write storage = 'inline' to keep them so"),
        (Type("image", storage="blob"), "image", "write storage = 'blob' to keep them so"),
        ("video", "large_binary", "holds video and cannot become large_binary"),
        ("text", Type("text", storage="uncompressed"), "holds text and cannot become uncompressed text"),
        (Type("text", storage="uncompressed"), "text", "holds uncompressed text and cannot become text"),
        ("vector<float32>[8]", "vector<float32>[16]", "cannot become vector"),
    ],
)
def test_a_stored_column_keeps_its_type(before, after, message):
    with pytest.raises(SchemaError) as caught:
        plan(table(Column("x", before)), schema(Column("x", after)))
    assert "table 'pets', column 'x'" in str(caught.value)
    assert message in str(caught.value)


def test_not_null_is_refused_where_rows_may_be_null():
    with pytest.raises(SchemaError, match="column 'x': rows may hold NULL already"):
        plan(table(Column("x", "int8")), schema(Column("x", "int8", nullable=False)))
    with pytest.raises(SchemaError, match="column 'x' is new, so the rows there are have no value"):
        plan(table(), schema(Column("x", "int8", nullable=False)))


def test_the_key_stays_the_key():
    other = Schema("pets", "name", [Column("name", "string", nullable=False)])
    with pytest.raises(SchemaError, match="the key is 'id' and cannot become 'name'"):
        plan(table(Column("name", "string", nullable=False)), other)
    with pytest.raises(SchemaError, match="there is no key and cannot become 'id'"):
        plan(table(Column("id", "string", nullable=False), key=None), schema())
    with pytest.raises(SchemaError, match="'id' is the key and cannot be dropped"):
        plan(table(), schema(Column("x", "int8"), key=None, drop=["id"]))
    with pytest.raises(SchemaError, match="'id' is the key; write nullable = false"):
        plan(table(), schema(Column("id", "string"), key=None))


def test_a_renamed_key_is_still_the_key():
    wanted = Schema("pets", "uid", [Column("uid", "string", nullable=False, renamed_from="id")])
    assert types.key_of(apply(table(), plan(table(), wanted))) == "uid"


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        (schema(drop=["width"]), "dropped"),
        (schema(Column("width_px", "int32", renamed_from="width")), "renamed"),
    ],
)
def test_features_and_what_they_are_computed_from_are_neither_dropped_nor_renamed(wanted, what):
    current = table(Column("width", "int32"))
    with pytest.raises(SchemaError, match=f"'width' cannot be {what}, area, ratio is computed from it"):
        plan(current, wanted, dependents={"width": ["area", "ratio"]})
    with pytest.raises(SchemaError, match=f"'width' is a feature; it is {what} by the table's"):
        plan(current, wanted, features=["width"])
