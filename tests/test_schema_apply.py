import os

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import commit
from lakehouse._lance import lance
from lakehouse.errors import ConflictError, InvalidArgumentError, SchemaError
from lakehouse.schema import apply

FIRST = """
name = "t"
key = "id"
[columns]
id = { type = "int64", nullable = false }
w = { type = "int32" }
kind = { type = "category", values = ["a", "b"] }
old = { type = "string" }
"""
SECOND = """
name = "t"
key = "id"
[columns]
id = { type = "int64", nullable = false }
width = { type = "int32", unit = "px", renamed_from = "w" }
kind = { type = "category", values = ["a", "b", "c"] }
clip = { type = "video" }
thumb = { type = "image" }
[changes]
drop = ["old"]
"""


@pytest.fixture
def table(lake):
    made = lake.create_table("t", schema=lh.Schema.parse(FIRST))
    made.add([{"id": 1, "w": 3, "kind": "a", "old": "x"}, {"id": 2, "w": 4, "kind": "b", "old": "y"}])
    return made


def planned(lake, text=SECOND):
    return lake.plan(lh.Schema.parse(text), table="t")


def test_a_plan_carried_out_leads_to_the_schema_and_nothing_is_left_to_do(lake, table):
    data = {entry.name for entry in os.scandir(f"{table.uri}/data")}
    version = lake.apply(planned(lake), allow_destructive=True)
    assert (table.version, planned(lake).is_empty) == (version, True)
    assert {entry.name for entry in os.scandir(f"{table.uri}/data")} == data
    assert table.schema.names == ["id", "width", "kind", "clip", "thumb"]
    assert table.to_arrow(["width", "kind"]).to_pylist() == [{"width": 3, "kind": "a"}, {"width": 4, "kind": "b"}]
    table.add([{"id": 3, "width": 1, "kind": "c", "clip": b"c" * 100_000, "thumb": b"t"}])
    row = table[3]
    assert (row["kind"], row["clip"].read(), row["thumb"].read()) == ("c", b"c" * 100_000, b"t")


def test_values_are_destroyed_only_when_that_is_allowed(lake, table):
    version = table.version
    with pytest.raises(InvalidArgumentError, match="allow_destructive=True\nplan for t"):
        lake.apply(planned(lake))
    assert table.version == version


def test_a_plan_is_for_its_table(lake, table):
    lake.create_table("u", schema=lh.Schema.parse(FIRST))
    with pytest.raises(InvalidArgumentError, match="the plan is for 't', not for 'u'"):
        apply.apply(lake.open_table("u").snapshot(), planned(lake))


def test_a_plan_that_is_no_longer_the_plan_is_refused(lake, table):
    plan = planned(lake)
    table.rename_column("w", "breadth")
    version = table.version
    with pytest.raises(ConflictError, match="changed since the plan was made: 5 steps lead to the schema now, 6"):
        lake.apply(plan, allow_destructive=True)
    assert table.version == version


def test_what_does_not_matter_to_the_plan_may_change(lake, table):
    plan = planned(lake)
    table.add([{"id": 3}])
    table.add_columns({"f": "id + 1"})
    lake.apply(plan, allow_destructive=True)
    assert table.schema.names == ["id", "width", "kind", "f", "clip", "thumb"]


def test_a_feature_declared_meanwhile_keeps_its_input(lake, table, monkeypatch):
    """It is declared between the plan of the attempt and its commit, when only the conflict can tell."""
    plan = planned(lake, FIRST.replace("old = ", "# old = ") + '[changes]\ndrop = ["old"]\n')
    dropping = apply._change.dispatch(type(plan.steps[-1]))

    def after_the_other(step, dataset):
        apply._change.register(type(step), dropping)
        table.add_columns({"f": "upper(old)"})
        dropping(step, dataset)

    apply._change.register(type(plan.steps[-1]), after_the_other)
    with pytest.raises(SchemaError, match="'old' cannot be dropped, f is computed from it"):
        lake.apply(plan, allow_destructive=True)
    table.backfill("f", progress=False)
    assert table.to_arrow(["f"])["f"].to_pylist() == ["X", "Y"]


def test_a_step_whose_answer_was_lost_is_not_done_twice(lake, table, monkeypatch):
    plan = planned(lake)
    real = commit.lance.LanceDataset.alter_columns

    def losing_the_answer(dataset, *changes):
        monkeypatch.setattr(commit.lance.LanceDataset, "alter_columns", real)
        real(dataset, *changes)
        raise OSError("Retryable commit conflict for version 3")

    monkeypatch.setattr(commit.lance.LanceDataset, "alter_columns", losing_the_answer)
    lake.apply(plan, allow_destructive=True)
    assert planned(lake).is_empty


def test_bytes_that_become_media_are_not_compressed_from_then_on(lake):
    table = lake.create_table("t", schema=pa.schema({"raw": pa.large_binary()}))
    lake.apply(planned(lake, 'name = "t"\n[columns]\nraw = { type = "image" }'))
    assert table.snapshot().physical.field("raw").metadata[b"lance-encoding:compression"] == b"none"
    table.add([{"raw": b"x" * 100_000}])
    files = [file for f in lance.dataset(table.uri).get_fragments() for file in f.data_files()]
    assert sum(file.file_size_bytes or 0 for file in files) > 100_000


def test_features_are_left_alone(lake, table):
    table.add_columns({"f": "w + 1"})
    with pytest.raises(SchemaError, match="'w' cannot be renamed, f is computed from it"):
        planned(lake)
    table.drop_columns(["f"])
    table.add_columns({"f": "id + 1"})
    assert planned(lake).features == ("f",)
