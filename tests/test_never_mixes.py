"""No column ever holds two generations unmarked, whatever changes, whenever: code, its constants and arguments, inputs.

Every value says which code computed it from which input. What a stamp calls true must be what the function declared now
gives for the row's input now.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import lancedb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import lakehouse as lh
from lakehouse._lance import lance
from lakehouse.errors import BackfillError, SchemaError
from tests.changing_code import CALLS, PARTS, Code, fill_and_kill

ROWS, FRAGMENTS = 6, 3
COLUMNS = ("f", "c")


def make(folder, functions):
    """Make the table: two columns computed by Python, one computed from the first."""
    schema = pa.schema([pa.field("id", pa.int64(), False, {"lakehouse:key": "true"}), pa.field("x", pa.int64())])
    table = lh.connect(folder).create_table("t", schema=schema)
    for start in range(0, ROWS * FRAGMENTS, ROWS):
        table.add(({"id": n, "x": n} for n in range(start, start + ROWS)), progress=False)
    table.add_columns(functions)
    table.add_columns({"d": "f + 1"})
    return table


def untrue(table, declared, rows, unverified=()):
    """Return the cells that claim to be true and are not.

    Parameters
    ----------
    declared
        By column, the code its function was declared with.
    rows
        The input by id.
    unverified
        Rows whose input others changed; where their feature does not say that it is not fresh, they count.
    """
    snapshot = table.snapshot()
    known = table.features()
    states = dict(zip(known["column"].to_pylist(), known["state"].to_pylist(), strict=True))
    found = []
    stored = {row["id"]: row for row in lance.dataset(table.uri).to_table().to_pylist()}
    assert {key: row["x"] for key, row in stored.items()} == rows
    for key, row in stored.items():
        for name, feature in snapshot.features.items():
            stamp = row[feature.stamp] or 0
            excused = key in unverified and states[name] != "fresh"
            if stamp >= feature.true_from and stamp % 2 == 0 and not excused:
                f = row["f"]
                expected = declared[name].value(name, rows[key]) if name in declared else f and f + 1
                found += [(key, name, row[name], expected)] if row[name] != expected else []
    return found


class NeverMixes(RuleBasedStateMachine):
    """One table, two functions whose code changes, and all that others do between their runs and in the middle of them."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.code = Code()
        self.functions = self.code.load(self.folder)
        self.table = make(self.folder / "lake", self.functions)
        self.declared = dict.fromkeys(COLUMNS, self.code)
        self.rows = {n: n for n in range(ROWS * FRAGMENTS)}
        self.unverified = set()

    def teardown(self):
        CALLS.then = None
        shutil.rmtree(self.folder)

    # What others do

    def other(self):
        return lh.connect(self.folder / "lake").open_table("t")

    def update(self, least):
        self.other().update(f"x >= {least}", values_sql={"x": "x + 50"})
        self._changed([key for key, x in self.rows.items() if x >= least], 50)

    def upsert(self, least):
        keys = [least, least + 7, 100 + least]
        upsert = self.other().merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        upsert.execute([{"id": key, "x": 70 + key} for key in keys])
        self.rows |= {key: 70 + key for key in keys}
        self.unverified -= set(keys)

    def update_by_lancedb(self, least):
        theirs = lancedb.connect(self.folder / "lake").open_table("t")
        theirs.update(where=f"x >= {least}", values_sql={"x": "x + 50"})
        keys = [key for key, x in self.rows.items() if x >= least]
        self._changed(keys, 50)
        self.unverified |= set(keys)

    def append(self, least):
        start = max(self.rows, default=0) + 1
        self.other().add([{"id": start + n, "x": least} for n in range(3)], progress=False)
        self.rows |= {start + n: least for n in range(3)}

    def delete(self, least):
        self.other().delete(f"x = {least}")
        self.rows = {key: x for key, x in self.rows.items() if x != least}
        self.unverified &= self.rows.keys()

    def compact(self, least):
        self.other().snapshot().dataset.optimize.compact_files()

    def alter(self, least):
        """Change the code and declare it, as a colleague does."""
        self.code = self.code.changed(PARTS[least % len(PARTS)])
        self.functions = self.code.load(self.folder)
        for column in COLUMNS:
            self.other().alter_udf(column, self.functions[column])
            self.declared[column] = self.code

    def edit(self, least):
        """Change the code and tell nobody."""
        self.code = self.code.changed(PARTS[least % len(PARTS)])
        self.functions = self.code.load(self.folder)

    def interrupt(self, least):
        raise KeyboardInterrupt

    OTHERS = (update, upsert, update_by_lancedb, append, delete, compact, alter, edit)

    def _changed(self, keys, by):
        for key in keys:
            self.rows[key] += by

    # The rules

    @rule(action=st.sampled_from(OTHERS), least=st.integers(0, 17))
    def others(self, action, least):
        action(self, least)

    @rule(
        column=st.sampled_from(COLUMNS),
        limit=st.one_of(st.none(), st.integers(1, 12)),
        at_call=st.integers(1, 18),
        meanwhile=st.sampled_from((None, *OTHERS, interrupt)),
        least=st.integers(0, 17),
    )
    def fill(self, column, limit, at_call, meanwhile, least):
        is_declared = self.code.same_for(column, self.declared[column])
        if meanwhile is not None:
            CALLS.at(at_call, lambda: meanwhile(self, least))
        try:
            self.table.backfill(column, udf=self.functions[column], limit=limit, progress=False)
        except (SchemaError, BackfillError, KeyboardInterrupt):
            assert not is_declared or meanwhile in (NeverMixes.alter, NeverMixes.interrupt)
        else:
            assert is_declared
        CALLS.then = None

    @rule()
    def fill_dependent(self):
        self.table.backfill("d", progress=False)

    @invariant()
    def what_is_called_true_is_true(self):
        assert not untrue(self.table, self.declared, self.rows, self.unverified)


TestNeverMixes = NeverMixes.TestCase
TestNeverMixes.settings = settings(
    max_examples=10, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)


# A process killed in mid-run, and then something changes


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Return a folder where a run was killed: one fragment is filled, the next one half computed."""
    folder = tmp_path_factory.mktemp("killed")
    functions = Code().load(folder)
    table = make(folder / "lake", functions)
    for column in COLUMNS:
        table.backfill(column, udf=functions[column], limit=ROWS, progress=False)
        assert fill_and_kill(folder, folder / "lake", column, 3)
    return folder


@pytest.mark.parametrize("part", PARTS)
def test_nothing_of_the_code_from_before_a_kill_is_in_what_the_changed_code_fills(tmp_path, killed, part):
    shutil.copytree(killed / "lake", tmp_path / "lake")
    table = lh.connect(tmp_path / "lake").open_table("t")
    code = Code().changed(part)
    functions = code.load(tmp_path)
    rows = {n: n for n in range(ROWS * FRAGMENTS)}
    for column in COLUMNS:
        if code.same_for(column, Code()):
            table.backfill(column, udf=functions[column], progress=False)
            continue
        with pytest.raises(SchemaError, match="this one differs"):
            table.backfill(column, udf=functions[column], progress=False)
        assert not untrue(table, dict.fromkeys(COLUMNS, Code()), rows)
        table.alter_udf(column, functions[column])
        assert table.backfill(column, udf=functions[column], progress=False).num_computed == ROWS * FRAGMENTS
    table.backfill("d", progress=False)
    assert not untrue(table, dict.fromkeys(COLUMNS, code), rows)
    assert set(table.features()["state"].to_pylist()) == {"fresh"}


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("change", ["update", "upsert"])
def test_nothing_computed_before_a_kill_from_another_input_is_called_true(tmp_path, killed, change, compacted):
    shutil.copytree(killed / "lake", tmp_path / "lake")
    table = lh.connect(tmp_path / "lake").open_table("t")
    functions = Code().load(tmp_path)
    rows = {n: n for n in range(ROWS * FRAGMENTS)}
    rows |= {key: 900 + key for key in (2, 7, 8, 15)}  # committed, computed, computed or not, not begun
    if change == "update":
        table.update("id IN (2, 7, 8, 15)", values_sql={"x": "x + 900"})
    else:
        changed = [{"id": key, "x": 900 + key} for key in (2, 7, 8, 15)]
        table.merge_insert("id").when_matched_update_all().execute(changed)
    if compacted:
        table.snapshot().dataset.optimize.compact_files()
    assert not untrue(table, dict.fromkeys(COLUMNS, Code()), rows)
    for column in COLUMNS:
        table.backfill(column, udf=functions[column], progress=False)
    table.backfill("d", progress=False)
    assert not untrue(table, dict.fromkeys(COLUMNS, Code()), rows)
    assert set(table.features()["state"].to_pylist()) == {"fresh"}


# The code changes within a process that is filling


@pytest.mark.parametrize("part", ["elsewhere", "beside"])
def test_a_helper_changed_in_the_process_in_mid_backfill_does_not_mix(tmp_path, part):
    """As a notebook does that reloads a module, or runs a cell again, while a thread fills."""
    functions = Code().load(tmp_path)
    module = sys.modules["team_features"]
    table = make(tmp_path / "lake", functions)

    def changed():
        if part == "elsewhere":
            module.team_shared.further = lambda x: 2
        else:
            module.beside = lambda x: 200

    CALLS.at(ROWS + 3, changed)
    with pytest.raises((BackfillError, SchemaError)):
        table.backfill("f", udf=functions["f"], progress=False)
    assert not untrue(table, dict.fromkeys(COLUMNS, Code()), {n: n for n in range(ROWS * FRAGMENTS)})
