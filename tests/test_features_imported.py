import itertools
import json
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import types
from lakehouse._lance import lance
from lakehouse.errors import (
    AlreadyExistsError,
    BadRowsError,
    ConflictError,
    DuplicateKeyError,
    InvalidArgumentError,
    RowNotFoundError,
    SchemaError,
)
from lakehouse.features.evolution import spool
from lakehouse.features.storing import landing
from lakehouse.leases import lease, leases_of
from tests.killing import run_and_kill

SCHEMA = 'name = "t"\nkey = "id"\n[columns]\nid = { type = "int64", nullable = false }\nx = { type = "int64" }\n'


@pytest.fixture
def table(lake):
    """Make a table of two fragments with the keys 0 to 19."""
    made = lake.create_table("t", schema=lh.Schema.parse(SCHEMA), data=[{"id": i, "x": i} for i in range(10)])
    made.add([{"id": i, "x": i} for i in range(10, 20)], progress=False)
    return made


def bring(table, data, **options):
    return table.add_columns_from(data, progress=False, **options)


def values(table, column):
    return dict(zip(*table.to_arrow(["id", column]).to_pydict().values(), strict=True))


def names(keys):
    return pa.table({"id": pa.array(keys, pa.int64()), "name": [f"n{key}" for key in keys]})


def states(table):
    return dict(zip(*table.features().select(["column", "state"]).to_pydict().values(), strict=True))


# The law


@settings(max_examples=6)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, 25), st.none() | st.text(max_size=3), max_size=20),
            st.sampled_from(["null", "keep"]),
            st.sampled_from(["nothing", "append", "delete", "compact", "update"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_rows_hold_what_the_data_say_by_key_whatever_happened_to_the_table(tmp_path_factory, steps):
    table = lh.connect(tmp_path_factory.mktemp("lake")).create_table(
        "t", schema=lh.Schema.parse(SCHEMA), data=[{"id": i, "x": i} for i in range(10)]
    )
    table.add([{"id": i, "x": i} for i in range(10, 15)], progress=False)
    expected: dict[int, str | None] = {}
    there = set(range(15))
    for n, (data, on_missing, then) in enumerate(steps):
        if not data.keys() & there and data:
            continue
        rows = pa.table({"id": pa.array(list(data), pa.int64()), "v": pa.array(list(data.values()), pa.string())})
        result = bring(table, rows, on_missing=on_missing)
        kept = expected if on_missing == "keep" else {}
        expected = {key: data.get(key, kept.get(key)) for key in there}
        assert values(table, "v") == expected
        assert (result.num_rows, result.num_missing, result.num_unmatched) == (
            len(there & data.keys()),
            len(there - data.keys()),
            len(data.keys() - there),
        )
        if on_missing == "null":
            assert states(table) == {"v": "fresh"}
        match then:
            case "append":
                table.add([{"id": 15 + n, "x": n}], progress=False)
                there.add(15 + n)
            case "delete":
                table.delete(f"id % 5 = {n}")
                there -= {key for key in there if key % 5 == n}
            case "compact":
                lance.dataset(table.uri).optimize.compact_files()
            case "update":
                table.update(values_sql={"x": "x + 1"}, where=f"id % 3 = {n}")
        expected = {key: expected.get(key) for key in there}
    lance.dataset(table.uri).validate()


TYPES = {
    "bool": (pa.bool_(), [True, False, None]),
    "uint8": (pa.uint8(), [0, 255, None]),
    "float16": (pa.float16(), [np.float16(1.5), None, np.float16(0)]),
    "decimal": (pa.decimal128(20, 3), [None, 0, 7]),
    "string": (pa.string(), ["", None, "ä" * 1000]),
    "binary": (pa.large_binary(), [b"", None, b"\0" * 1000]),
    "timestamp": (pa.timestamp("ns", "Europe/Berlin"), [1, None, 2**60]),
    "date": (pa.date32(), [1, None, 2]),
    "vector": (pa.list_(pa.float32(), 3), [[1, 2, 3], None, [4, 5, 6]]),
    "list": (pa.list_(pa.struct([("a", pa.int8())])), [[{"a": 1}, None], [], None]),
    "struct": (
        pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]),
        [{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}],
    ),
}


@pytest.mark.parametrize("name", list(TYPES))
def test_values_of_any_type_come_as_they_are(table, name):
    data_type, three = TYPES[name]
    given = pa.table({"id": [15, 3, 7], "v": pa.array(three, data_type)})
    bring(table, given)
    assert table.schema.field("v").type == data_type
    got = table.get([15, 3, 7], ["v"])["v"].combine_chunks()
    assert got.equals(given["v"].combine_chunks())


KEYS = {
    "string": pa.array(["a", "b", None, "d"]),
    "timestamp": pa.array([1, 2, None, 2**60], pa.timestamp("ns", "UTC")),
    "binary": pa.array([b"\0", b"b", None, b""], pa.large_binary()),
    "uint64": pa.array([0, 1, None, 2**64 - 1], pa.uint64()),
    "float": pa.array([0.5, -1, None, 1e300]),
    "dictionary": pa.array(["a", "b", None, "d"]).dictionary_encode(),
    "bool": pa.array([True, False, None, None]),
}


@pytest.mark.parametrize("name", list(KEYS))
def test_rows_are_found_by_keys_of_any_kind_and_never_by_null(lake, name):
    table = lake.create_table("t", data=pa.table({"k": KEYS[name], "n": [0, 1, 2, 3]}))
    data = pa.table({"v": [10, 11, 12], "k": KEYS[name].take(pa.array([1, 2, 0]))})
    result = bring(table, data, on="k")
    assert dict(zip(*table.to_arrow(["n", "v"]).to_pydict().values(), strict=True)) == {0: 12, 1: 10, 2: None, 3: None}
    assert (result.num_rows, result.num_missing, result.num_unmatched) == (2, 2, 1)
    assert result.unmatched == (None,)
    with pytest.raises(DuplicateKeyError, match=re.escape(f"the key {KEYS[name][1].as_py()!r} is 2 times")):
        bring(table, pa.table({"v": [1, 2], "k": KEYS[name].take(pa.array([1, 1]))}), on="k")


# What is declared


def test_columns_that_come_together_share_a_stamp_and_say_what_they_came_from(table, tmp_path):
    pq.write_table(names(range(20)).append_column("n", pa.array(range(20))), tmp_path / "labels.parquet")
    result = bring(table, tmp_path / "labels.parquet")
    assert (result.columns, result.num_rows) == (("name", "n"), 20)
    feature = table.snapshot().features["name"]
    assert (feature.columns, feature.kind, feature.called) == (("name", "n"), "data", ("id",))
    assert feature.source == str(tmp_path / "labels.parquet")
    assert table.features().select(["column", "state", "inputs"]).to_pylist() == [
        {"column": "name", "state": "fresh", "inputs": ["id"]},
        {"column": "n", "state": "fresh", "inputs": ["id"]},
    ]


@pytest.mark.parametrize(
    "made",
    [
        lambda lake: names([1, 2]),
        lambda lake: names([1, 2]).to_reader(),
        lambda lake: names([1, 2]).to_pandas(),
        lambda lake: names([1, 2]).to_pylist(),
        lambda lake: iter(names([1, 2]).to_pylist()),
        lambda lake: lake.sql("SELECT id, 'n' || id AS name FROM t WHERE id IN (2, 1)"),
    ],
    ids=["table", "reader", "pandas", "rows", "generator", "sql"],
)
def test_data_come_in_every_form(lake, table, made):
    assert bring(table, made(lake)).num_rows == 2
    assert {key: name for key, name in values(table, "name").items() if name} == {1: "n1", 2: "n2"}


def test_what_they_came_from_is_told(lake, table):
    bring(table, names(range(20)))
    assert table.snapshot().features["name"].source == "pyarrow.Table"
    version = table.version
    bring(table, lake.sql("SELECT id, name || '!' AS name FROM t"))
    assert table.snapshot().features["name"].source == f"SQL over t at version {version}"


def test_such_columns_are_renamed_and_dropped_one_by_one_and_the_rest_can_be_filled_again(table):
    bring(table, names(range(20)).append_column("n", pa.array(range(20))).append_column("m", pa.array(range(20))))
    table.rename_column("m", "mm")
    table.drop_columns(["name"])
    assert states(table) == {"n": "fresh", "mm": "fresh"}
    bring(table, pa.table({"id": [3], "n": [-3], "mm": [-33]}), on_missing="keep")
    assert (values(table, "n")[3], values(table, "mm")[3], values(table, "n")[4]) == (-3, -33, 4)
    assert states(table) == {"n": "fresh", "mm": "fresh"}


def test_what_is_computed_from_them_becomes_stale_where_they_change(table):
    bring(table, pa.table({"id": range(20), "w": range(20)}))
    table.add_columns({"double": "w * 2"})
    table.backfill("double", progress=False)
    bring(table, pa.table({"id": [3], "w": [30]}), on_missing="keep")
    assert states(table) == {"w": "fresh", "double": "stale(inputs)"}
    assert table.backfill("double", progress=False).num_filled == 1
    assert values(table, "double")[3] == 60


def test_an_update_of_the_column_they_were_found_by_makes_them_stale(lake):
    table = lake.create_table("t", data=[{"id": i, "code": f"c{i}"} for i in range(4)])
    bring(table, pa.table({"code": ["c0", "c1", "c2", "c3"], "v": [0, 1, 2, 3]}), on="code")
    table.update(values={"code": "c3"}, where="id = 1")
    assert states(table) == {"v": "stale(inputs)"}
    bring(table, pa.table({"code": ["c0", "c1", "c2", "c3"], "v": [0, 1, 2, 3]}), on="code")
    assert (values(table, "v"), states(table)) == ({0: 0, 1: 3, 2: 2, 3: 3}, {"v": "fresh"})


def test_a_backfill_of_everything_passes_them_over_and_one_of_them_says_how(table):
    bring(table, names(range(5)))
    table.add_columns({"d": "x * 2"})
    table.add([{"id": 20, "x": 20}], progress=False)
    table.backfill(progress=False)
    assert states(table) == {"name": "partial", "d": "fresh"}
    with pytest.raises(SchemaError, match="add_columns_from"):
        table.backfill("name", progress=False)


def test_a_category_stays_a_category_and_a_word_it_does_not_have_is_refused(table):
    field = types.field("kind", "category", values=["cat", "dog"])
    words = pa.array(["dog", None, "cat"])
    given = pa.table([pa.array([15, 3, 7]), words.cast(field.type)], pa.schema([pa.field("id", pa.int64()), field]))
    bring(table, given)
    assert types.category_values(table.schema.field("kind")) == ["cat", "dog"]
    assert table.get([15, 3, 7], ["kind"])["kind"].to_pylist() == ["dog", None, "cat"]
    with pytest.raises(BadRowsError, match="'cow' is not a value of category 'kind'"):
        bring(table, given.set_column(1, field, pa.chunked_array([["cow", None, "cat"]]).cast(field.type)))


def test_an_image_stays_an_image(lake, pets):
    field = pets.schema.field("image").with_name("thumb")
    keys = pets.to_arrow(["id"])["id"]
    thumbs = pa.chunked_array([pa.array([b"t%d" % n for n in range(20)], pa.large_binary())])
    bring(pets, pa.table([keys, thumbs], schema=pa.schema([pets.schema.field("id"), field])))
    assert pets[keys[3].as_py()]["thumb"].read() == b"t3"


def test_their_history_and_rollback_are_those_of_a_feature(table):
    version = bring(table, names(range(20))).version
    bring(table, pa.table({"id": [1], "name": ["other"]}))
    assert values(table, "name")[2] is None
    table.rollback_column("name", version=version, progress=False)
    assert values(table, "name") == {i: f"n{i}" for i in range(20)}
    assert states(table) == {"name": "fresh"}
    what = table.column_history("name")["what"].to_pylist()
    assert what == ["imported", "filled", "imported", "filled", "rolled back"]


# Mistakes


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ({"id": [1, 2, 1], "v": [1, 2, 3]}, {}, DuplicateKeyError, "the key 1 is 2 times in the data"),
        ({"id": [1, 2], "x": [1, 2]}, {}, AlreadyExistsError, "'x' is a column of the table already"),
        ({"id": [1, 2], "d": [1, 2]}, {}, AlreadyExistsError, "'d' is computed from x . 2"),
        ({"key": [1, 2], "v": [1, 2]}, {}, InvalidArgumentError, "no column 'id' to find rows by; it has key, v"),
        ({"id": [1, 2]}, {}, InvalidArgumentError, "no column beside 'id'"),
        ({"id": ["1"], "v": [1]}, {}, SchemaError, "column 'id' is string in the data and int64 in the table"),
        ({"id": [70, 71], "v": [1, 2]}, {}, RowNotFoundError, "no row of 't' has a key of the data, id = 7"),
        ({"id": [1], "v": [1]}, {"on_missing": "raise"}, RowNotFoundError, "19 rows of 't' have no data, id = "),
        ({"id": [1], "v": [1]}, {"on_missing": "drop"}, InvalidArgumentError, "on_missing='drop'; choose"),
        ({"id": [1], "n": [1.5], "name": ["b"]}, {}, BadRowsError, "row 0: .*nothing was changed"),
        ({"id": [1], "name": ["b"]}, {}, SchemaError, "name, n came together from .*; the data lacks 'n'"),
        ({"id": [1], "a.b": ["b"]}, {}, SchemaError, "holds a dot"),
    ],
)
def test_mistakes_are_told_and_change_nothing(table, data, options, error, message):
    table.add_columns({"d": "x * 2"})
    bring(table, names(range(20)).append_column("n", pa.array(range(20), pa.int64())))
    before = table.version
    with pytest.raises(error, match=message):
        bring(table, pa.table(data), **options)
    assert table.version == before


def test_keys_that_are_not_in_the_table_are_counted_named_and_logged(table, caplog):
    result = bring(table, names([1, 50, 51]))
    assert (result.num_rows, result.num_unmatched, sorted(result.unmatched)) == (1, 2, [50, 51])
    assert "2 of 3 rows of the data have no row in 't'" in caplog.text


def test_a_column_that_is_being_filled_says_by_whom(table):
    bring(table, names(range(20)))
    token = table.snapshot().features["name"].token
    with lease(leases_of(table.snapshot()), token, "filling"), pytest.raises(ConflictError, match="pid"):
        bring(table, names(range(3)))


# Others at the same time, and kills

ACTS = {
    "append": lambda t: t.add([{"id": 100, "x": 1}], progress=False),
    "delete": lambda t: t.delete("id = 3"),
    "update": lambda t: t.update(values={"x": 50}, where="id = 4"),
    "compact": lambda t: lance.dataset(t.uri).optimize.compact_files(),
    "declare": lambda t: t.add_columns({"length": "character_length(name)"}),
    "rename": lambda t: t.rename_column("name", "called"),
}


@pytest.mark.parametrize(("act", "again"), [*((act, True) for act in ACTS), ("compact", False), ("append", False)])
def test_whatever_others_do_in_between_each_row_gets_its_own_value(table, monkeypatch, act, again):
    if again:
        bring(table, pa.table({"id": range(20), "name": ["old"] * 20}))
    real, calls = landing.commit_staged, itertools.count(1)

    def commits(*args, **kwargs):
        if next(calls) == 1:
            ACTS[act](table)
        return real(*args, **kwargs)

    monkeypatch.setattr(landing, "commit_staged", commits)
    bring(table, names(range(19, -1, -1)))
    column = "called" if act == "rename" else "name"
    got = values(table, column)
    assert got.pop(100, None) is None
    assert got == {i: f"n{i}" for i in range(20) if (act, i) != ("delete", 3)}
    assert states(table)[column] == ("partial" if act == "append" else "fresh")


IMPORT = """
    import pyarrow as pa
    import lakehouse as lh
    from lakehouse._lance import lance
    from lakehouse.features.evolution import spool
    from lakehouse.features.storing import staging
    before(lance.LanceDataset, "commit", "commit")
    before(lance.LanceDataset, "add_columns", "declare")
    before(staging, "stage_pieces", "stage")
    data = pa.table({"id": range(20), "name": [f"n{i}" for i in range(20)]})
    lh.connect("lake").open_table("t").add_columns_from(data, progress=False)
"""


@pytest.mark.parametrize(("at", "again"), [("declare.1", False), ("stage.2", False), ("commit.2", True)])
def test_the_same_call_after_a_kill_goes_on(table, tmp_path, at, again):
    if again:
        bring(table, pa.table({"id": range(20), "name": ["old"] * 20}))
    run_and_kill(IMPORT, at, tmp_path)
    result = bring(table, names(range(20)))
    assert (values(table, "name"), states(table)) == ({i: f"n{i}" for i in range(20)}, {"name": "fresh"})
    assert result.nbytes_written > 0
    assert table.snapshot().features["name"].generation == 1 + again


WRITER = """
    import sys
    import pyarrow as pa
    import lakehouse as lh
    table = lh.connect("lake").open_table("t")
    own = f"c{sys.argv[1]}"
    for n in range(3):
        data = pa.table({"id": range(20), own: [100 * n + i for i in range(20)]})
        table.add_columns_from(data, progress=False)
        table.add([{"id": 1000 * int(sys.argv[1]) + n, "x": 0}], progress=False)
        table.update(values_sql={"x": "x + 1"}, where=f"id % 5 = {n}")
"""


def test_several_processes_bring_their_columns_at_once(table, tmp_path):
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    writers = [
        subprocess.Popen([sys.executable, str(script), str(n)], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for n in (1, 2, 3)
    ]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 3
    assert table.count_rows() == 20 + 3 * 3
    for n in (1, 2, 3):
        assert {k: v for k, v in values(table, f"c{n}").items() if k < 20} == {i: 200 + i for i in range(20)}


# Memory

MEASURED = """
    import json, resource, sys
    import numpy as np, pyarrow as pa
    import lakehouse as lh

    num_rows, each = int(sys.argv[1]), int(sys.argv[2])
    table = lh.connect("lake").create_table("t", data=pa.table({"id": np.arange(num_rows)}))

    def batches():
        for start in range(0, num_rows, 1000):
            ids = order[start : start + 1000]
            content = np.repeat(ids.astype(np.uint8), each)
            offsets = np.arange(len(ids) + 1, dtype=np.int64) * each
            yield pa.record_batch([ids, pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ids), [None, pa.py_buffer(offsets), pa.py_buffer(content)])], schema)

    order = np.random.default_rng(0).permutation(num_rows)
    schema = pa.schema([("id", pa.int64()), ("v", pa.large_binary())])
    table.add_columns_from(pa.table({"id": [0], "tiny": [0]}), on="id", progress=False)  # everything is loaded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    result = table.add_columns_from(pa.RecordBatchReader.from_batches(schema, batches()), on="id", progress=False)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    few = table.to_arrow(["id", "v"], where="id % 997 = 3").to_pylist()
    right = all(row["v"] == bytes([row["id"] % 256]) * each for row in few)
    print(json.dumps({"num_rows": result.num_rows, "grown": peak, "right": right and len(few) > 3}))
"""


def measured(folder, num_rows, each):
    script = folder / "measured.py"
    script.write_text(textwrap.dedent(MEASURED))
    done = subprocess.run(
        [sys.executable, str(script), str(num_rows), str(each)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_memory_stays_below_the_data_in_any_order(tmp_path):
    found = measured(tmp_path, 10_000, 40_000)
    assert (found["num_rows"], found["right"]) == (10_000, True)
    assert found["grown"] < 250e6 < 10_000 * 40_000, found


@pytest.mark.soak
@pytest.mark.parametrize(("num_rows", "each"), [(100_000, 20_000), (5_000_000, 200)])
def test_memory_is_bounded_for_data_several_times_the_limit(tmp_path, num_rows, each):
    found = measured(tmp_path, num_rows, each)
    assert (found["num_rows"], found["right"]) == (num_rows, True)
    assert found["grown"] < 400e6, found


def test_nothing_is_left_in_the_temporary_folder(table, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(os.listdir(tmp_path))
    bring(table, names(range(20)))
    with pytest.raises(DuplicateKeyError):
        bring(table, names([1, 1]))
    assert set(os.listdir(tmp_path)) == before


def test_what_a_killed_call_left_in_the_temporary_folder_goes_with_the_next(table, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    run_and_kill(IMPORT, "stage.1", tmp_path)
    assert len(os.listdir(temporary)) == 1
    monkeypatch.setattr(spool, "_YOUNG_S", 0)
    schema = pa.schema([("id", pa.int64()), ("name", pa.string())])
    with spool.spooled(schema, "id"):
        assert len(os.listdir(temporary)) == 1  # the other one is gone, and this one stays
        with spool.spooled(schema, "id"):
            assert len(os.listdir(temporary)) == 2


def test_a_spool_of_many_buckets_hands_rows_out_in_order(monkeypatch):
    monkeypatch.setattr(spool, "_BUCKET_NBYTES", 1000)
    monkeypatch.setattr(spool, "_BATCH_NBYTES", 300)
    monkeypatch.setattr(spool, "_CHUNK_NBYTES", 900)
    rng = np.random.default_rng(0)
    keys = rng.permutation(500)
    with spool.spooled(pa.schema([("k", pa.int64()), ("v", pa.string())]), "k") as spooled:
        for part in np.array_split(keys, 7):
            spooled.append(pa.record_batch({"k": part, "v": [str(key) for key in part]}))
        places = np.arange(0, 1000, 2).astype(np.uint64) << np.uint64(20)
        table_keys = rng.permutation(600)[:500]
        spooled.place([(pa.array(table_keys[:250]), places[:250]), (pa.array(table_keys[250:]), places[250:])])
        windows = list(spooled.in_order(keep_missing=True))
        assert len(windows) > 10
        assert np.concatenate([addresses for _, addresses in windows]).tolist() == places.tolist()
        assert pa.concat_tables([rows for rows, _ in windows])["v"].to_pylist() == [
            str(key) if key < 500 else None for key in table_keys
        ]
        kept = list(spooled.in_order(keep_missing=False))
        assert pa.concat_tables([rows for rows, _ in kept])["v"].to_pylist() == [str(k) for k in table_keys if k < 500]
