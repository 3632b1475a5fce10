import json
import multiprocessing
import os
import pickle

import lance
import lancedb
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.errors import (
    AlreadyExistsError,
    BadRowsError,
    ConflictError,
    InvalidArgumentError,
    LakehouseError,
    ReadOnlyError,
    SchemaError,
    TableNotFoundError,
    UnsupportedTableError,
    VersionNotFoundError,
)
from tests.killing import run_and_kill


def test_lancedb_and_lance_open_every_table(lake, pets):
    theirs = lancedb.connect(lake.uri)
    assert theirs.open_table("pets").count_rows() == len(pets)
    assert lance.dataset(pets.uri).count_rows() == len(pets)


def test_a_lake_reads_tables_of_a_lancedb_directory(tmp_path):
    lancedb.connect(tmp_path).create_table("theirs", pa.table({"id": ["a"], "v": [[1.0, 2.0]]}))
    lake = lh.connect(tmp_path)
    assert lake.table_names() == ["theirs"]
    assert lake.open_table("theirs").to_arrow(["id"]).to_pylist() == [{"id": "a"}]
    assert not (tmp_path / "_lakehouse").exists()


def test_writing_to_a_lancedb_table_is_refused_until_it_is_adopted(tmp_path, caplog):
    lancedb.connect(tmp_path).create_table("theirs", pa.table({"x": [1, 2]}))
    lake = lh.connect(tmp_path)
    with pytest.raises(UnsupportedTableError, match=r"lake\.adopt\('theirs'\)"):
        lake.open_table("theirs").add_columns({"y": "x + 1"})
    table = lake.adopt("theirs", progress=False)
    table.add_columns({"y": "x + 1"})
    table.backfill(progress=False)
    assert table.to_arrow().to_pydict() == {"x": [1, 2], "y": [2, 3]}
    assert "the original is at" in caplog.text
    assert lancedb.connect(tmp_path).open_table("theirs").count_rows() == 2


def test_a_table_of_lances_legacy_format_is_read_and_takes_columns_once_it_is_adopted(tmp_path):
    data = pa.table({"x": [1, 2]})
    lance.write_dataset(data, tmp_path / "old.lance", data_storage_version="legacy", enable_stable_row_ids=True)
    lake = lh.connect(tmp_path)
    table = lake.open_table("old")
    assert [batch["x"].tolist() for batch in table.loader(columns=["x"], batch_size=2, shuffle=False)] == [[1, 2]]
    for declare in (lambda: table.add_columns({"y": "x + 1"}), lambda: table.add_columns_from(data, on="x")):
        with pytest.raises(UnsupportedTableError, match=r"legacy format.*lake\.adopt\('old'\)"):
            declare()
    table = lake.adopt("old", progress=False)
    table.add_columns({"y": "x + 1"})
    table.backfill(progress=False)
    assert table.to_arrow().to_pydict() == {"x": [1, 2], "y": [2, 3]}


def test_an_adoption_killed_between_its_moves_goes_on(tmp_path):
    lancedb.connect(tmp_path / "lake").create_table("theirs", pa.table({"x": [1, 2]}))
    code = """
    import pathlib
    import lakehouse as lh
    before(pathlib.Path, "rename", "move")
    lh.connect("lake").adopt("theirs", progress=False)
    """
    run_and_kill(code, "move.2", tmp_path)
    lake = lh.connect(tmp_path / "lake")
    assert lake.table_names() == []
    assert lake.adopt("theirs", progress=False).to_arrow()["x"].to_pylist() == [1, 2]


def test_a_table_written_to_while_it_is_adopted_is_left_as_it_is(tmp_path, monkeypatch):
    theirs = lancedb.connect(tmp_path).create_table("theirs", pa.table({"x": [1, 2]}))
    lake = lh.connect(tmp_path)
    from lakehouse import creation

    create = creation.create

    def and_somebody_writes(*args):
        create(*args)
        theirs.add(pa.table({"x": [3]}))

    monkeypatch.setattr(creation, "create", and_somebody_writes)
    with pytest.raises(ConflictError, match="written to while"):
        lake.adopt("theirs", progress=False)
    assert lake.open_table("theirs").count_rows() == 3


def test_a_table_that_needs_no_adoption_is_opened(lake, pets):
    version = pets.version
    assert lake.adopt("pets").version == version


def test_creating_with_rows_that_cannot_be_added_leaves_no_table(lake):
    with pytest.raises(BadRowsError):
        lake.create_table("t", schema="images", data=[{"id": "a"}, {"id": None}])
    assert lake.table_names() == []


def test_creating_never_removes_what_somebody_else_wrote_meanwhile(lake):
    def rows():
        yield pa.RecordBatch.from_pydict({"x": [1]})
        lake.open_table("t").add([{"x": 7}], progress=False)
        raise ValueError("broken on purpose")

    with pytest.raises(LakehouseError, match="broken on purpose"):
        lake.create_table("t", data=rows())
    assert lake.open_table("t").to_arrow()["x"].to_pylist() == [7]


def test_ctrl_c_while_creating_leaves_a_table_to_go_on_with(lake):
    def rows():
        yield pa.RecordBatch.from_pydict({"x": [1]})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lake.create_table("t", data=rows())
    assert len(lake.open_table("t")) == 0


def test_exist_ok_opens_a_table_that_has_the_columns(lake, pets):
    assert len(lake.create_table("pets", schema="images", exist_ok=True)) == len(pets)
    with pytest.raises(AlreadyExistsError, match="lacks text, title"):
        lake.create_table("pets", schema="documents", exist_ok=True)
    with pytest.raises(AlreadyExistsError, match="not added silently"):
        lake.create_table("pets", data=[{"id": "z"}], exist_ok=True)
    with pytest.raises(AlreadyExistsError, match="exist_ok=True"):
        lake.create_table("pets", schema="images")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x.lance", "a b", "a" * 201])
def test_names_that_would_leave_the_lake_are_refused(lake, name):
    with pytest.raises(InvalidArgumentError, match="cannot be a table name"):
        lake.create_table(name, schema="images")


def test_the_handle_of_a_dropped_table_says_so(lake, pets):
    lake.drop_table("pets")
    for use in (pets.count_rows, pets.features, lambda: pets.delete("true")):
        with pytest.raises(TableNotFoundError, match="'pets'.*was dropped"):
            use()


def test_a_table_needs_columns(lake):
    with pytest.raises(InvalidArgumentError, match="what columns"):
        lake.create_table("t")
    with pytest.raises(SchemaError, match="did you mean 'images'"):
        lake.create_table("t", schema="imagse")


def test_an_unknown_table_names_those_there_are(lake, pets):
    with pytest.raises(TableNotFoundError, match="it has pets; did you mean 'pets'"):
        lake.open_table("pest")
    with pytest.raises(TableNotFoundError):
        lake.drop_table("pest")


def test_dropping_removes_the_table_and_what_was_kept_beside_it(lake, pets):
    pets.add([{"id": "x", "split": "nope"}], on_bad_rows="record", progress=False)
    assert pets.errors().num_rows == 1
    lake.drop_table("pets")
    assert lake.table_names() == []
    assert lake.create_table("pets", schema="images").errors().num_rows == 0


def test_a_lake_of_a_newer_format_is_refused(lake, pets):
    marker = lake._location.path / "_lakehouse" / "format.json"
    assert json.loads(marker.read_text()) == {"format": 1}
    marker.write_text('{"format": 2}')
    with pytest.raises(UnsupportedTableError, match="pip install -U lance-lakehouse"):
        lh.connect(lake.uri)


def test_a_read_only_lake_refuses_every_write(lake, pets):
    reading = lh.connect(lake.uri, read_only=True)
    table = reading.open_table("pets")
    for write in (
        lambda: table.add([{"id": "z"}]),
        lambda: table.delete("true"),
        lambda: table.update(values={"width": 1}),
        lambda: table.add_columns({"a": "width + 1"}),
        lambda: reading.create_table("t", schema="images"),
        lambda: reading.drop_table("pets"),
        lambda: reading.adopt("pets"),
        lambda: table.checkout(1).add([{"id": "z"}]),
        lambda: table.tag("v1"),
        lambda: table.untag("v1"),
    ):
        with pytest.raises(ReadOnlyError):
            write()
    assert len(table) == len(pets)


def test_a_pinned_handle_never_moves_and_refuses_writes(lake, pets):
    version = pets.version
    pets.tag("v1")
    by_number, by_tag = pets.checkout(version), lake.open_table("pets", "v1")
    pets.delete("true")
    assert (len(by_number), len(by_tag), len(pets)) == (20, 20, 0)
    with pytest.raises(ReadOnlyError, match="pinned"):
        by_tag.delete("true")


def test_an_unpinned_handle_sees_what_others_wrote(lake, pets):
    other = lake.open_table("pets")
    pets.delete("true")
    assert len(other) == 0


def test_a_version_or_tag_that_is_not_there_names_those_that_are(lake, pets):
    pets.tag("v1")
    with pytest.raises(VersionNotFoundError, match="no version 99"):
        pets.checkout(99)
    with pytest.raises(VersionNotFoundError, match="did you mean 'v1'"):
        pets.checkout("v11")
    with pytest.raises(VersionNotFoundError, match="no branches"):
        lake.open_table("pets", branch="exp")


def test_handles_pickle_without_credentials(lake, pets):
    secret = lh.connect(lake.uri, storage_options={"aws_secret_access_key": "hunter2"}).open_table("pets", 1)
    assert b"hunter2" not in pickle.dumps(secret)
    assert "hunter2" not in repr(secret)
    again = pickle.loads(pickle.dumps(secret))
    assert (again.name, again.version) == ("pets", 1)
    assert pickle.loads(pickle.dumps(lake)).table_names() == ["pets"]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_handles_work_in_worker_processes(pets, method):
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        assert pool.apply(len, (pets,)) == 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Lance warns about the fork as well
def test_a_forked_process_is_told_so_instead_of_crashing(lake, pets):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            lake.open_table("pets")
            said = "nothing"
        except UnsupportedTableError as error:
            said = str(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert "spawn" in os.read(reader, 1000).decode()


def test_schema_plans_add_rename_and_drop(lake):
    table = lake.create_table("t", data=[{"id": "a", "time": 1, "old": 2}])
    wanted = lh.Schema.parse(
        """
        name = "t"
        [columns]
        id = { type = "string" }
        taken_at = { type = "int64", renamed_from = "time" }
        clip = { type = "video" }
        [changes]
        drop = ["old"]
        """
    )
    plan = lake.plan(wanted, table="t")
    assert [(step.verb, step.effect) for step in plan] == [("rename", "safe"), ("add", "safe"), ("drop", "destructive")]
    with pytest.raises(InvalidArgumentError, match="allow_destructive=True"):
        lake.apply(plan)
    lake.apply(plan, allow_destructive=True)
    assert table.schema.names == ["id", "taken_at", "clip"]
    assert lake.plan(wanted, table="t").is_empty
    table.add([{"id": "b", "clip": b"v" * 100_000}], progress=False)
    assert [len(v) for v in table.to_arrow(["clip"], "id = 'b'")["clip"].to_pylist()] == [100_000]


def test_a_plan_of_a_tables_own_schema_with_three_features_is_empty(lake, pets):
    pets.add_columns({"area": "width * height", "tall": "height > width"})
    pets.add_columns({"big": "area > 100"})
    plan = lake.plan("images", table="pets")
    assert plan.is_empty
    assert {"area", "tall", "big"} <= set(plan.features)
