"""Which rows: the same ids in the same order as a scan gives, in few bytes, once on a machine."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import reads
from lakehouse.errors import FilterError
from lakehouse.loader.rows import arrayfiles, choice
from lakehouse.loader.rows.arrayfiles import ArrayFile, shared
from lakehouse.loader.rows.ascending import Bitmap, Packed, Runs, ascending_of
from lakehouse.loader.rows.asked import Asked
from lakehouse.loader.rows.choice import Choice
from lakehouse.loader.rows.selection import Selection
from lakehouse.where import render


@pytest.fixture
def numbers(lake):
    table = lake.create_table("numbers", data=pa.table({"x": range(100), "y": [None, 1.0] * 50}))
    table.add(pa.table({"x": range(100, 300), "y": [2.0] * 200}))
    return table


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Give this test a machine of its own, on which every scan is worth keeping."""
    monkeypatch.setattr(arrayfiles.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(choice, "_FEW_ROWS", 0)
    return tmp_path / f"lakehouse-{os.getuid()}"


def select(snapshot, predicate=None):
    return choice.select(snapshot, Choice(predicate))[0]


def ids_of(selection):
    return selection.row_ids(np.arange(selection.num_rows))


def ascending(num, universe, seed=0):
    """Draw about `num` of the numbers below `universe`."""
    return np.unique(np.random.default_rng(seed).integers(0, universe, num, dtype=np.int64))


in_any_order = st.lists(st.integers(0, 400), unique=True, max_size=200)
in_pieces = st.lists(in_any_order.map(sorted), max_size=6).map(lambda parts: sum(parts, []))
far_apart = st.lists(st.integers(0, 1 << 40), unique=True, max_size=50).map(sorted)
in_runs = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 400)), max_size=9).map(
    lambda runs: np.flatnonzero(np.concatenate([[0], *(np.r_[np.zeros(gap), np.ones(n)] for gap, n in runs)])).tolist()
)
any_ids = st.one_of(in_any_order, in_pieces, far_apart, in_runs).map(lambda ids: np.array(ids, np.uint64))


@given(any_ids, st.data())
def test_any_ids_in_any_order_come_back(row_ids, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(row_ids)), max_size=5)))
    selection = Selection.of(np.split(row_ids, cuts))
    assert selection.num_rows == len(row_ids)
    assert np.array_equal(ids_of(selection), row_ids)
    assert np.array_equal(np.concatenate([*selection.pieces(), row_ids[:0]]), row_ids)
    some = np.array(data.draw(st.lists(st.integers(0, len(row_ids) - 1), max_size=9)) if len(row_ids) else [], np.int64)
    assert np.array_equal(selection.row_ids(some), row_ids[some])


@given(any_ids, st.sampled_from(["runs", "bitmap", "packed"]), st.integers(0, 20), st.data())
def test_each_form_gives_each_number_at_its_place(row_ids, kind, width, data):
    numbers = np.unique(row_ids.astype(np.int64)) % (1 << 16)
    numbers = np.unique(numbers)
    universe = int(numbers[-1]) + 1 if len(numbers) else 0
    cuts = sorted(data.draw(st.lists(st.integers(0, len(numbers)), max_size=5)))
    pieces = [part for part in np.split(numbers, cuts) if len(part)]
    firsts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    made = {
        "runs": lambda: Runs.of(len(numbers), iter([(firsts, numbers[firsts])])),
        "bitmap": lambda: Bitmap.of(universe, iter(pieces)),
        "packed": lambda: Packed.of(width, len(numbers), universe, lambda: iter(pieces)),
    }[kind]()
    file = ArrayFile.of(ArrayFile({}, made.arrays).to_bytes())
    for form in (made, ascending_of(kind, file.arrays)):
        assert np.array_equal(form.at(np.arange(len(numbers))), numbers)


@given(any_ids, st.data())
def test_the_digest_tells_rows_and_order_and_nothing_else(row_ids, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(row_ids)), max_size=5)))
    whole = Selection.of([row_ids])
    assert Selection.of(np.split(row_ids, cuts)).digest == whole.digest
    assert (Selection.of([row_ids[::-1]]).digest == whole.digest) == np.array_equal(row_ids[::-1], row_ids)
    assert Selection.of([row_ids[1:]]).digest != whole.digest or not len(row_ids)


@pytest.mark.parametrize(
    ("row_ids", "digest"),
    [
        ([], "e3b0c44298fc1c149afbf4c8996fb924"),
        (range(10), "4ab5e45571b9db4e2d397a37fe9ef3b4"),
        ([3, 4, 5, 9, 1, 2], "dccbc945e6d730873cf8a731410dba90"),
        (range(0, 100, 3), "4adfbda914e5acd0d258178c1972795e"),
        ([2**40, 5, 6], "15ac8f94de7ac504eafb57841cce3144"),
        (range(50, 20, -1), "5dda4566850f47d04b26fa2387303ce3"),
    ],
)
def test_digests_are_frozen(row_ids, digest):
    """Saved states name them: they were the same when selections were lists of runs."""
    assert Selection.of([np.array(row_ids, np.uint64)]).digest == digest


@pytest.mark.parametrize(
    ("density", "universe", "most"),
    [
        (0.9, 10**6, 0.2),
        (0.5, 10**6, 0.4),
        (0.1, 10**6, 0.8),
        (1e-2, 10**6, 1.2),
        (1e-3, 10**7, 1.6),
        (1e-4, 10**8, 2.1),
    ]
    + [(1e-5, 10**9, 2.5), (1e-6, 10**9, 2.9)],
)
def test_rows_that_a_filter_strews_take_less_than_three_bytes(density, universe, most):
    kept = ascending(int(-np.log1p(-density) * universe), universe)  # as many draws as leave that many numbers
    selection = Selection.of([kept.astype(np.uint64)])
    assert selection.num_rows == pytest.approx(density * universe, rel=0.1)
    assert selection.nbytes / selection.num_rows < most < 3
    places = np.random.default_rng(1).integers(0, len(kept), 1000)
    assert np.array_equal(selection.row_ids(places), kept[places])


def test_a_whole_table_is_a_few_runs_however_long(lake):
    table = lake.create_table("long", data=pa.table({"x": np.zeros(300_000, np.int8)}))
    assert select(table.snapshot()).nbytes <= 64
    billions = Selection.of([range(5 * 10**9), range(10**10, 2 * 10**10)])
    assert billions.nbytes <= 64
    assert billions.row_ids(np.array([0, 5 * 10**9, 15 * 10**9 - 1])).tolist() == [0, 10**10, 2 * 10**10 - 1]


@pytest.mark.parametrize("where", [None, "x % 3 = 1", "x < 0", "x = 7", ("x >= $low", {"low": 250})])
def test_the_rows_are_those_of_a_scan(numbers, where):
    snapshot = numbers.snapshot()
    assert np.array_equal(ids_of(select(snapshot, render(where))), reads.row_ids(snapshot, where))


def test_without_a_filter_only_fragments_that_lost_rows_are_read(numbers, monkeypatch):
    scanned = []
    monkeypatch.setattr(choice, "_scanned", lambda snapshot, columns, fragments: scanned.append(fragments) or iter(()))
    select(numbers.snapshot())
    assert scanned == []
    numbers.delete("x = 5")
    select(numbers.snapshot())
    assert [[fragment.fragment_id for fragment in fragments] for fragments in scanned] == [[0]]


def test_rows_that_were_deleted_updated_compacted_and_upserted_keep_their_ids(numbers):
    numbers.delete("x % 7 = 0")
    numbers.update(where="x < 50", values={"y": 5.0})
    for change in (
        lambda: None,
        numbers.compact,
        lambda: numbers.add(pa.table({"x": [7], "y": [1.0]})),
        numbers.compact,
    ):
        change()
        snapshot = numbers.snapshot()
        selection = select(snapshot)
        assert np.array_equal(ids_of(selection), reads.row_ids(snapshot))
        rows = reads.take_row_ids(snapshot, ids_of(selection), ["x"])
        assert rows["x"].to_pylist() == numbers.to_arrow(columns=["x"])["x"].to_pylist()


def test_rows_with_nulls_can_be_left_out(numbers):
    asked = Asked(("x", "y"), ("x", "y"), None, "skip")
    assert asked.lead(numbers.snapshot()).selection.num_rows == 250
    assert replace(asked, where="x < 100 OR x > 290").lead(numbers.snapshot()).selection.num_rows == 59


def test_a_predicate_that_does_not_parse_says_so(numbers):
    with pytest.raises(FilterError, match="x >"):
        select(numbers.snapshot(), "x >")


@pytest.mark.parametrize("limit", [1 << 20, 0])
def test_a_selection_is_pickled_or_mapped(node, monkeypatch, limit):
    monkeypatch.setattr(arrayfiles, "_PICKLED_NBYTES", limit)
    selection = Selection.of([np.arange(0, 900, 3, dtype=np.uint64)])
    pickled = pickle.dumps(selection)
    assert node.exists() == (limit == 0)
    there = pickle.loads(pickled)
    assert there.digest == selection.digest
    assert np.array_equal(ids_of(there), ids_of(selection))


def test_a_filter_is_scanned_once_on_a_machine(numbers, node, monkeypatch):
    first = select(numbers.snapshot(), "x % 3 = 1")
    monkeypatch.setattr(choice, "_scanned", None)
    again = select(numbers.snapshot(), "x % 3 = 1")
    assert (again.digest, again.file.path) == (first.digest, first.file.path)
    assert len(pickle.dumps(again)) < 500
    assert again.file.path.parent == node


def test_another_table_of_the_same_name_has_its_own_rows(lake, node):
    for rows in ([1, 2, 3], [3, 3, 3]):
        table = lake.create_table("t", data=pa.table({"x": rows}))
        assert select(table.snapshot(), "x < 3").num_rows == rows.count(1) + rows.count(2)
        lake.drop_table("t")


MAKER = """
import os, sys, tempfile
import numpy as np
from lakehouse.loader.rows.asked import Asked
from lakehouse.loader.rows.arrayfiles import ArrayFile, shared
tempfile.tempdir = sys.argv[1]
def make():
    os.write(1, b"made ")
    if sys.argv[2] == "hang":
        sys.stdin.read()
    return ArrayFile({"by": os.getpid()}, {"x": np.arange(1000)})
print(shared("k", make).record["by"])
"""


def maker(folder, how="make"):
    command = [sys.executable, "-c", MAKER, str(folder), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_of_many_processes_one_makes_the_file(tmp_path):
    said = [process.communicate()[0] for process in [maker(tmp_path) for _ in range(4)]]
    assert "".join(said).count("made") == 1
    assert len({text.replace("made ", "") for text in said}) == 1


def test_a_kill_while_the_file_is_made_leaves_it_to_the_next(tmp_path, node):
    killed = maker(tmp_path, "hang")
    assert killed.stdout.read(5) == "made "
    waiting = maker(tmp_path)  # it may wait for the lock of the one that is killed
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert waiting.communicate()[0] == f"made {waiting.pid}\n"
    assert [path.name for path in node.iterdir()] == ["k.arrow"]


@pytest.mark.parametrize("name", ["k.aside", "k.arrow"])
@pytest.mark.parametrize("content", [b"", b"ARROW1 and then the power failed"])
def test_what_a_killed_process_left_is_made_anew(node, name, content):
    shared("other", lambda: ArrayFile({}, {"x": np.arange(1)}))
    (node / name).write_bytes(content)
    assert shared("k", lambda: ArrayFile({}, {"x": np.arange(3)})).arrays["x"].tolist() == [0, 1, 2]
    assert sorted(path.name for path in node.iterdir()) == ["k.arrow", "other.arrow"]


def test_files_that_nobody_maps_go_after_a_while(node):
    used = shared("used", lambda: ArrayFile({}, {"x": np.arange(3)}))
    shared("unused", lambda: ArrayFile({}, {"x": np.arange(3)}))
    for path in node.iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    shared("new", lambda: ArrayFile({}, {"x": np.arange(3)}))
    assert sorted(path.name for path in node.iterdir()) == ["new.arrow", "used.arrow"]
    assert used.arrays["x"].tolist() == [0, 1, 2]


def test_a_folder_that_others_may_write_to_is_not_used(node, caplog):
    node.mkdir(mode=0o777)
    node.chmod(0o777)
    assert shared("k", lambda: ArrayFile({}, {"x": np.arange(3)})).path is None
    assert "belongs to somebody else" in caplog.text
    assert list(node.iterdir()) == []
