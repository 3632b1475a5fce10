import datetime as dt
import threading

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import rows
from lakehouse._lance import lance
from lakehouse.errors import (
    BadRowsError,
    ColumnNotFoundError,
    DuplicateKeyError,
    FilterError,
    InvalidArgumentError,
    ReadOnlyError,
    SchemaError,
)

SCHEMA = lh.Schema.parse(
    """
    name = "t"
    key = "id"
    [columns]
    id = { type = "string", nullable = false }
    x = { type = "int64" }
    y = { type = "int64", nullable = false }
    kind = { type = "category", values = ["a", "b"] }
    vector = { type = "vector<float32>[2]" }
    at = { type = "timestamp[us, UTC]" }
    image = { type = "image" }
    clip = { type = "video" }
    """
)


def made(lake):
    table = lake.create_table("t", schema=SCHEMA)
    table.add([{"id": f"k{n}", "x": n, "y": n, "kind": "a", "clip": b"c" * n} for n in range(6)])
    return table


def with_features(table):
    table.add_columns({"f": "x + 1", "h": "y + 1"})
    table.add_columns({"g": "f + 1"})
    table.backfill(progress=False)
    return table


@pytest.fixture
def table(lake):
    return made(lake)


@pytest.fixture
def chained(table):
    """Features of features, filled: f from x, g from f, h from y."""
    return with_features(table)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """The same, for those who change nothing."""
    return with_features(made(lh.connect(tmp_path_factory.mktemp("unchanged"))))


def states(table):
    features = table.features()
    return dict(zip(features["column"].to_pylist(), features["state"].to_pylist(), strict=True))


def upsert(table):
    return table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()


def by_key(table, column):
    return {row["id"]: row[column] for row in table.to_arrow(["id", column]).to_pylist()}


# What depends on a row


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.update("id = 'k1'", {"x": 100}),
        lambda t: t.update("id = 'k1'", values_sql={"x": "x + 99"}),
        lambda t: upsert(t).execute([{"id": "k1", "x": 100, "y": 1}]),
        lambda t: t.merge_insert("id").when_matched_update_all().execute([{"id": "k1", "x": 100, "y": 1}]),
    ],
    ids=["values", "values_sql", "upsert", "update only"],
)
def test_a_written_input_resets_what_depends_on_it_in_the_same_commit(chained, write):
    before = chained.version
    write(chained)
    assert chained.version == before + 1
    assert (states(chained)["f"], states(chained)["g"]) == ("stale(inputs)", "stale(inputs)")
    assert chained.to_arrow(["id"], "f__stamp = 0 AND g__stamp = 0")["id"].to_pylist() == ["k1"]
    chained.backfill(progress=False)
    assert by_key(chained, "g") == {f"k{n}": 102 if n == 1 else n + 2 for n in range(6)}


def test_what_does_not_depend_on_it_stays_true(chained):
    chained.update("id = 'k1'", {"x": 100})
    assert states(chained)["h"] == "fresh"
    chained.update("id = 'k2'", {"kind": "b"})
    assert chained.count_rows("f__stamp = 0") == 1


@pytest.mark.parametrize("way", ["update", "upsert"])
def test_a_feature_declared_after_the_write_began_is_reset_too(lake, table, monkeypatch, way):
    """The other engineer declares and fills between this handle's last look and its first attempt."""
    other = lake.open_table("t")
    newest = rows.commit.newest

    def after_the_other(location):
        monkeypatch.setattr(rows.commit, "newest", newest)
        other.add_columns({"f": "x + 1"})
        other.backfill("f", progress=False)
        return newest(location)

    monkeypatch.setattr(rows.commit, "newest", after_the_other)
    if way == "update":
        table.update("id = 'k1'", {"x": 100})
    else:
        upsert(table).execute([{"id": "k1", "x": 100, "y": 1}])
    assert table.count_rows("f__stamp = 0") == 1
    assert states(table) == {"f": "stale(inputs)"}


@pytest.mark.parametrize("way", ["update", "upsert"])
def test_a_feature_declared_between_the_look_and_the_commit_is_reset_too(lake, table, monkeypatch, way):
    """The schema of the attempt is read already; only the conflict can tell, and the next attempt reads it anew."""
    other = lake.open_table("t")
    resets = rows._resets

    def then_the_other(*args):
        found = resets(*args)
        monkeypatch.setattr(rows, "_resets", resets)
        other.add_columns({"f": "x + 1"})
        other.backfill("f", progress=False)
        return found

    monkeypatch.setattr(rows, "_resets", then_the_other)
    if way == "update":
        table.update("id = 'k1'", {"x": 100})
    else:
        upsert(table).execute([{"id": "k1", "x": 100, "y": 1}])
    assert states(table) == {"f": "stale(inputs)"}
    table.backfill("f", progress=False)
    assert by_key(table, "f") == {f"k{n}": 101 if n == 1 else n + 1 for n in range(6)}


# Update and delete


def test_update_changes_the_rows_that_match_and_says_how_many(table):
    result = table.update(
        ("x >= $n", {"n": 4}), {"kind": "b", "at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)}, {"y": "y*2"}
    )
    assert (result.num_rows, result.version) == (2, table.version)
    assert result.nbytes_written > 0
    got = table.to_arrow(["x", "y", "kind"], "at IS NOT NULL").to_pylist()
    assert got == [{"x": 4, "y": 8, "kind": "b"}, {"x": 5, "y": 10, "kind": "b"}]
    assert by_key(table, "clip") == {f"k{n}": b"c" * n for n in range(6)}


def test_update_of_every_row_needs_no_predicate(table):
    assert table.update(values={"vector": [1.5, 2.5], "kind": None}).num_rows == 6
    assert table.to_arrow(["vector"])["vector"].to_pylist() == [[1.5, 2.5]] * 6


def test_text_is_stored_as_it_is(lake):
    table = lake.create_table("texts", data=[{"id": 1, "s": ""}])
    for text in ("it's", 'a "b" `c`', "$x; -- no comment", "ä\n\t\\", "' OR true"):
        table.update(values={"s": text})
        assert table.to_arrow(["s"])["s"].to_pylist() == [text]


def test_delete_says_how_many_and_keeps_the_rest(table):
    assert table.delete(("id IN $keys", {"keys": ["k0", "k3"]})).num_rows == 2
    assert sorted(by_key(table, "x")) == ["k1", "k2", "k4", "k5"]
    assert table.delete("id = 'none'").num_rows == 0
    assert table.delete("true").num_rows == 4
    assert len(table) == 0


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (lambda t: t.update("x = 1"), InvalidArgumentError, "nothing to update"),
        (lambda t: t.update(values={"x": 1}, values_sql={"x": "2"}), InvalidArgumentError, "'x' is in values and in"),
        (lambda t: t.update(values={"xx": 1}), ColumnNotFoundError, "no column 'xx'"),
        (lambda t: t.update(values={"f": 1}), SchemaError, "'f' is a feature"),
        (lambda t: t.update(values={"id": "a"}), SchemaError, "'id' is the key"),
        (lambda t: t.update(values={"kind": "c"}), SchemaError, "'c' is not a value of category 'kind'"),
        (lambda t: t.update(values={"y": None}), SchemaError, "'y' must not be NULL"),
        (lambda t: t.update("x <", {"x": 1}), FilterError, "x <"),
        (lambda t: t.update("x = 1; DROP", {"x": 1}), FilterError, "one expression"),
        (lambda t: t.delete(None), InvalidArgumentError, 'delete\\("true"\\)'),
        (lambda t: t.delete("nope = 1"), (FilterError, ColumnNotFoundError), "nope"),
        (lambda t: t.merge_insert("x"), SchemaError, "cannot upsert 't' on 'x': its key is 'id'"),
        (lambda t: t.merge_insert("nope"), ColumnNotFoundError, "no column 'nope'"),
        (lambda t: t.merge_insert("id").execute([]), InvalidArgumentError, "does nothing"),
        (lambda t: upsert(t).execute([{"id": "a", "y": 1}] * 2), DuplicateKeyError, "'a' is twice"),
        (lambda t: upsert(t).execute([{"id": "a", "y": 1, "z": 1}]), SchemaError, "column 'z'"),
        (lambda t: upsert(t).execute([{"id": "a", "y": 1, "f": 1}]), SchemaError, "'f' is a feature"),
        (lambda t: upsert(t).execute([{"id": "a", "y": 1, "kind": "q"}]), BadRowsError, "'q' is not a value"),
        (lambda t: upsert(t).execute([{"id": None, "y": 1}]), BadRowsError, "'id' is NULL"),
        (lambda t: upsert(t).execute([{"x": 1, "y": 1}]), SchemaError, "lacks id"),
        (lambda t: t.checkout(2).update(values={"x": 1}), ReadOnlyError, "pinned"),
    ],
)
def test_mistakes_change_nothing(unchanged, write, error, message):
    before = unchanged.version
    with pytest.raises(error, match=message):
        write(unchanged)
    assert unchanged.version == before


# Upserts


def test_upsert_updates_and_inserts_in_one_version(table):
    before = table.version
    result = upsert(table).execute(
        [{"id": "k5", "x": 50, "y": 5, "clip": b"new"}, {"id": "k9", "x": 9, "y": 9, "clip": None}]
    )
    assert (result.num_rows, result.version) == (2, before + 1)
    assert by_key(table, "clip") == {**{f"k{n}": b"c" * n for n in range(5)}, "k5": b"new", "k9": None}


def test_columns_left_out_of_an_update_keep_their_values(table):
    table.merge_insert("id").when_matched_update_all().execute([{"id": "k2", "x": 20, "y": 2}])
    assert (by_key(table, "x")["k2"], by_key(table, "clip")["k2"]) == (20, b"cc")


def test_insert_only_leaves_what_is_there(table):
    result = (
        table.merge_insert("id")
        .when_not_matched_insert_all()
        .execute([{"id": "k2", "x": 20, "y": 0}, {"id": "k7", "x": 7, "y": 7}])
    )
    assert result.num_rows == 1
    assert (by_key(table, "x")["k2"], by_key(table, "x")["k7"]) == (2, 7)


def test_an_upsert_of_nothing_is_no_version(table):
    assert upsert(table).execute([]).version == table.version == 2


def test_concurrent_upserts_of_the_same_keys_insert_each_once(lake, table):
    barrier, keys = threading.Barrier(6), range(4, 12)

    def write(n):
        own = lake.open_table("t")
        for round_number in range(3):
            barrier.wait()
            upsert(own).execute([{"id": f"k{key}", "x": 10 * n + round_number, "y": 0} for key in keys])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(3):  # and another writer, who does not know us
        lance.write_dataset(pa.table({"id": ["foreign"], "y": pa.array([0], pa.int64())}), table.uri, mode="append")
        lance.dataset(table.uri).delete("id = 'foreign'")
    for thread in threads:
        thread.join()
    assert sorted(by_key(table, "x")) == sorted({f"k{n}" for n in range(12)})
    assert len(table) == 12


def test_concurrent_updates_are_each_applied_once(lake, table):
    def add_one():
        own = lake.open_table("t")
        for _ in range(4):
            own.update("id = 'k0'", values_sql={"x": "x + 1"})

    threads = [threading.Thread(target=add_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert by_key(table, "x")["k0"] == 16
