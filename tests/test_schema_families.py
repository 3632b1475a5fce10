"""The shipped schemas, and where they are found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import lakehouse
from lakehouse import types
from lakehouse.errors import SchemaError
from lakehouse.schema import Schema, families

PROVENANCE = {
    "source_uri": pa.string(),
    "content_sha256": pa.string(),
    "license": pa.string(),
    "origin": pa.string(),
    "generator": pa.string(),
    "parents": pa.list_(pa.string()),
    "gen_depth": pa.int32(),
    "ingested_at": pa.timestamp("us", "UTC"),
}


@pytest.mark.parametrize("name", families.names())
def test_every_family_is_keyed_documented_and_has_provenance(name):
    schema = families.load(name)
    assert (schema.name, schema.key) == (name, "id")
    assert all(column.doc for column in schema.columns)
    arrow = schema.to_arrow()
    assert {field.name: field.type for field in arrow if field.name in PROVENANCE} == PROVENANCE
    assert [field.name for field in arrow if not field.nullable] == ["id"]
    assert types.category_values(arrow.field("split")) == ["train", "val", "test"]


@pytest.mark.parametrize("name", families.names())
def test_every_family_is_written_and_read_without_loss(name):
    schema = families.load(name)
    assert Schema.parse(schema.to_toml()) == schema
    assert Schema.from_arrow(schema.to_arrow()) == schema


@pytest.mark.parametrize(("name", "column"), [("images", "image"), ("videos", "video"), ("documents", "text")])
def test_every_family_has_its_medium(name, column):
    assert types.media_kind(families.load(name).to_arrow().field(column)) == column


def test_an_unknown_family_names_the_nearest():
    with pytest.raises(SchemaError, match=r"'image' \(shipped are documents, images, videos.*did you mean 'images'\?"):
        families.load("image")


def test_a_file_is_told_from_a_family(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('name = "own"\n[columns]\nx = { type = "int8" }', "utf-8")
    assert families.load(path) == families.load(str(path))
    with pytest.raises(SchemaError, match="no schema file"):
        families.load("images.toml")


def test_an_installed_package_finds_the_families_inside_itself(tmp_path):
    source = Path(lakehouse.__file__).parent
    shutil.copytree(source, tmp_path / "lakehouse", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(source.parent / "schemas", tmp_path / "lakehouse" / "schemas")  # as pyproject.toml packs it
    code = "from lakehouse.schema import families; print(families.__file__, families.load('images').names[0])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(tmp_path / "lakehouse/schema/families.py"), "id"], done.stderr
