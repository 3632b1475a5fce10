"""A small team on one table, every role in a process of its own; `tests/soak/test_soak_team.py` is the whole one."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from benchmarks import team_writers
from lakehouse._lance import lance
from tests.team.checker import check
from tests.team.history import History
from tests.team.plan import MODES, Plan, first_rows
from tests.team.reader import Reader
from tests.team.running import make_table, run
from tests.team.writer import Made, Writer, calls_of


@pytest.mark.timeout(300)  # twelve processes, each of which loads everything, where others may be testing too
def test_a_team_loses_no_column_and_no_cell_and_computes_hardly_a_row_twice(tmp_path):
    plan = Plan(str(tmp_path), "everything", 0, num_writers=6, num_fills=6, every=4, read_every=2, num_slices=3)
    run(plan)
    verdict = check(plan)
    assert not verdict.violations
    assert verdict.least_fills_a_writer >= plan.num_fills
    assert verdict.turns == {role: plan.num_turns(role) for role in MODES["everything"]}
    assert verdict.num_rows_compacted
    assert verdict.computed_per_needed <= 1.05


# The checker is believed only where it is seen to find what it looks for.
HARMS = {
    "lost column": lambda table: table.drop_columns(["c01"]),
    "lost cell": lambda table: table.update({"c00__stamp": "0"}, where="id = 3"),
    "wrong cell": lambda table: table.update({"c00": "c00 + 1"}, where="id = 3"),
    "unfilled cells": lambda table: table.update({"c00__stamp": "0"}, where="id = 3"),
    "duplicate rows": lambda table: table.insert(table.to_table(filter="id = 3")),
    "wrong rows": lambda table: table.delete("id = 3"),
}


@pytest.fixture
def reader(tmp_path):
    """Return the reader of a team of two, who has seen their columns filled."""
    plan = Plan(str(tmp_path), "quiet", 0, num_writers=2, num_fills=1, every=1, read_every=1)
    make_table(plan)
    for number in range(2):
        writer = Writer(plan, number)
        writer.declare()
        writer.fill()
    reader = Reader(plan)
    reader.look(at_the_ledger=True)
    return reader


def judged(reader):
    reader.look(at_the_ledger=True)
    return check(reader.plan)


def behind_everybodys_back(reader):
    return lance.dataset(f"{reader.plan.lake}/t.lance")


def test_the_checker_finds_nothing_where_nothing_is_wrong(reader):
    verdict = judged(reader)
    assert not verdict.violations
    assert verdict.num_computed == verdict.num_needed == verdict.num_landed


@pytest.mark.parametrize("kind", HARMS)
def test_the_checker_finds(reader, kind):
    HARMS[kind](behind_everybodys_back(reader))
    assert judged(reader).count(kind)


def test_the_checker_finds_an_update_whose_stale_marks_are_missing(reader):
    with History(reader.plan, "update").operation("update", keys=[3], by=5) as came:
        table = behind_everybodys_back(reader)
        came["num_rows"] = table.update({"x": "x + 5"}, where="id = 3")["num_rows_updated"]
        came["version"] = table.version
    verdict = judged(reader)
    assert verdict.count("stale mark missing") == 1
    assert not verdict.count("wrong rows")


def test_the_checker_counts_a_row_that_is_computed_again_or_for_nothing(reader):
    rows = first_rows(reader.plan, 0)
    again = Made(calls_of(reader.plan), 0, 1)
    again(rows["id"], rows["x"])  # the same rows with the same inputs
    again(rows["id"], rows["y"])  # inputs that were never there
    again.close()
    verdict = judged(reader)
    assert verdict.num_computed - verdict.num_needed == 2 * rows.num_rows
    assert verdict.count("rows computed differ")


def test_what_lance_ray_does_drops_a_column_that_came_meanwhile_and_says_nothing(reader):
    """The rivals of `benchmarks.team` are what they are said to be."""
    table = behind_everybodys_back(reader)

    def slow(rows):
        if "theirs" not in behind_everybodys_back(reader).schema.names:
            behind_everybodys_back(reader).add_columns({"theirs": "x"})
        return pa.RecordBatch.from_arrays([rows.column("x")], names=["mine"])

    team_writers._merge_columns(table.uri, "mine", slow)
    left = behind_everybodys_back(reader).schema.names
    assert "mine" in left
    assert "theirs" not in left


def test_plain_add_columns_is_refused_where_anything_came_meanwhile(reader):
    table = behind_everybodys_back(reader)

    def slow(rows):
        # Another thread, because Lance does not let its function call Lance.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: behind_everybodys_back(reader).delete("id = 3")).result()
        return pa.RecordBatch.from_arrays([rows.column("x")], names=["mine"])

    with pytest.raises(OSError, match="conflict"):
        team_writers._add_columns(table.uri, "mine", slow)
    assert "mine" not in behind_everybodys_back(reader).schema.names
