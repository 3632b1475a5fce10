"""Schemas as values, as TOML and as Arrow."""

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import types
from lakehouse.errors import ColumnNotFoundError, SchemaError, StorageError
from lakehouse.schema import Column, Schema
from tests import schema_strategies

ID = 'id = { type = "string", nullable = false }'
HEAD = f'name = "x"\nkey = "id"\n[columns]\n{ID}\n'


def with_changes(schema, words):
    """A schema that renames its first column and drops what is left of `words`."""
    spare = [word for word in words if word not in schema.names]
    if not spare:
        return schema
    columns = [dataclasses.replace(schema.columns[0], renamed_from=spare[0]), *schema.columns[1:]]
    return dataclasses.replace(schema, columns=columns, drop=spare[1:])


@given(schema_strategies.schemas())
def test_from_arrow_undoes_to_arrow(schema):
    assert Schema.from_arrow(schema.to_arrow()) == schema


@given(schema_strategies.schemas(), st.lists(schema_strategies.words, max_size=3, unique=True))
def test_parse_undoes_to_toml(schema, words):
    schema = with_changes(schema, words)
    assert Schema.parse(schema.to_toml()) == schema


@given(schema_strategies.schemas(), st.lists(schema_strategies.words, max_size=3, unique=True))
def test_arrow_keeps_all_but_the_changes(schema, words):
    assert Schema.from_arrow(with_changes(schema, words).to_arrow()) == schema


@given(schema_strategies.schemas())
def test_foreign_metadata_does_not_matter(schema):
    arrow = schema.to_arrow()
    fields = [field.with_metadata({**(field.metadata or {}), b"PARQUET:field_id": b"1"}) for field in arrow]
    assert Schema.from_arrow(pa.schema(fields, {**arrow.metadata, b"pandas": b"{}"})) == schema


def test_the_file_of_the_documentation_reads(tmp_path):
    path = tmp_path / "images.toml"
    path.write_text(
        """
name = "images"
key = "id"
[columns]
id        = { type = "string", nullable = false, doc = "content hash" }
image     = { type = "image" }                       # image | video | audio | text | blob
width     = { type = "int32", unit = "px" }
split     = { type = "category", values = ["train", "val", "test"] }
embedding = { type = "vector<float32>[384]" }
taken_at  = { type = "timestamp[us, UTC]", renamed_from = "time" }
clip      = { type = "video", storage = "inline" }
[changes]
drop = ["old"]
""",
        "utf-8",
    )
    schema = Schema.from_toml(path)
    assert schema.names == ("id", "image", "width", "split", "embedding", "taken_at", "clip")
    assert (schema.key, schema.drop) == ("id", ("old",))
    assert schema.column("taken_at").renamed_from == "time"
    arrow = schema.to_arrow()
    assert arrow.field("embedding").type == pa.list_(pa.float32(), 384)
    assert types.category_values(arrow.field("split")) == ["train", "val", "test"]
    assert types.key_of(arrow) == "id"
    assert not arrow.field("id").nullable
    assert not types.is_blob(arrow.field("clip"))


def test_toml_is_written_a_column_a_line():
    column = Column("width", "int32", unit="px", doc="how wide")
    split = Column("split", types.Type("category", ("train", "val")))
    schema = Schema("pets", "id", [Column("id", "string", nullable=False), column, split], drop=["old"])
    assert schema.to_toml() == (
        'name = "pets"\nkey = "id"\n\n[columns]\n'
        'id = { type = "string", nullable = false }\n'
        'width = { type = "int32", unit = "px", doc = "how wide" }\n'
        'split = { type = "category", values = ["train", "val"] }\n'
        '\n[changes]\ndrop = ["old"]\n'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD + 'w = { type = "int8", nulable = true }',
            "f.toml, columns.w: unknown key 'nulable'; did you mean 'nullable'?",
        ),
        (HEAD + 'w = { type = "imge" }', "f.toml, columns.w: unknown type 'imge'; did you mean 'image'?"),
        (
            HEAD + 'w = { type = "int8", nullable = "no" }',
            "f.toml, columns.w: nullable must be true or false, not 'no'",
        ),
        (HEAD + "w = { type = 8 }", "f.toml, columns.w: type must be a string in quotes, not 8"),
        (HEAD + 'w = { doc = "x" }', "f.toml, columns.w: type is missing"),
        (HEAD + 'w = "int8"', "f.toml, columns.w: a column is a table, as in { type = 'int32' }, not 'int8'"),
        (HEAD + 'w = { type = "category" }', "f.toml, columns.w: a category needs its values"),
        (HEAD + 'w = { type = "category", values = [] }', "f.toml, columns.w: a category needs its values"),
        (
            HEAD + 'w = { type = "category", values = ["a", "a"] }',
            "f.toml, columns.w: value 'a' is in the category twice",
        ),
        (HEAD + 'w = { type = "category", values = [1] }', "f.toml, columns.w: values must be a list of strings"),
        (
            HEAD + 'w = { type = "image", storage = "bolb" }',
            "f.toml, columns.w: storage is 'inline' or 'blob', not 'bolb'; did you mean 'blob'?",
        ),
        (HEAD + 'w__stamp = { type = "int8" }', "f.toml, columns.w__stamp: column name 'w__stamp' is reserved"),
        (HEAD + '_rowid = { type = "int8" }', "f.toml, columns._rowid: column name '_rowid' is reserved"),
        (HEAD + 'w = { type = "int8", renamed_from = "w" }', "f.toml, columns.w: column 'w' is renamed from itself"),
        (HEAD + 'w = { type = "int8", renamed_from = "id" }', "f.toml: 'id' is a column and in drop or renamed_from"),
        (HEAD + '[changes]\ndrop = ["id"]', "f.toml: 'id' is a column and in drop"),
        (HEAD + '[changes]\ndrop = ["a", "a"]', "f.toml: drop or renamed_from 'a' is there twice"),
        (HEAD + '[changes]\ndorp = ["a"]', "f.toml, changes: unknown key 'dorp'; did you mean 'drop'?"),
        (HEAD + "[change]\n", "f.toml: unknown key 'change'; did you mean 'changes'?"),
        (f'nam = "x"\n[columns]\n{ID}', "f.toml: unknown key 'nam'; did you mean 'name'?"),
        (f"[columns]\n{ID}", "f.toml: name is missing"),
        (f'name = ""\n[columns]\n{ID}', "f.toml: a schema needs a name"),
        ('name = "x"', "f.toml: columns is missing"),
        ('name = "x"\n[columns]', "f.toml: a schema needs at least one column"),
        (f'name = "x"\nkey = "idd"\n[columns]\n{ID}', "f.toml: key 'idd' is not a column; did you mean 'id'?"),
        ('name = "x"\nkey = "id"\n[columns]\nid = { type = "string" }', "f.toml: key 'id' may not be nullable"),
        (
            'name = "x"\nkey = "id"\n[columns]\nid = { type = "image", nullable = false }',
            "f.toml: key 'id' is image; a key is",
        ),
        (
            'name = "x"\nkey = "id"\n[columns]\nid = { type = "float32", nullable = false }',
            "f.toml: key 'id' is float32; a key is",
        ),
        (f'name = "x"\n[columns]\n{ID}\n{ID}', "f.toml: Cannot overwrite a value"),
        ('name = "x"\nkey = = 3', "f.toml: Invalid value (at line 2"),
    ],
)
def test_a_wrong_file_is_refused_with_place_reason_and_nearest_word(text, message):
    with pytest.raises(SchemaError) as caught:
        Schema.parse(text, source="f.toml")
    assert message in str(caught.value)


def test_files_that_cannot_be_read_say_which(tmp_path):
    with pytest.raises(SchemaError, match="no schema file '.*nope.toml'"):
        Schema.from_toml(tmp_path / "nope.toml")
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        Schema.from_toml(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SchemaError, match=r"b\.toml: not a text file in UTF-8"):
        Schema.from_toml(tmp_path / "b.toml")


def test_columns_written_twice_are_refused():
    with pytest.raises(SchemaError, match="column 'a' is there twice"):
        Schema("x", None, [Column("a", "int8"), Column("a", "int16")])


def test_a_column_asked_for_by_a_wrong_name_is_named():
    with pytest.raises(ColumnNotFoundError, match="no column 'widht'.*did you mean 'width'"):
        Schema("x", None, [Column("width", "int8")]).column("widht")


def test_a_table_made_by_others_has_a_schema_too():
    arrow = pa.schema({"id": pa.int64(), "vector": pa.list_(pa.float32(), 2), "tags": pa.list_(pa.string())})
    schema = Schema.from_arrow(arrow, name="pets")
    assert (schema.name, schema.key) == ("pets", None)
    assert [str(column.type) for column in schema.columns] == ["int64", "vector<float32>[2]", "list<string>"]
    assert schema.to_arrow().equals(arrow, check_metadata=False)
