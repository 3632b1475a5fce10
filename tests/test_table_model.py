"""The table as a state machine against a list of dictionaries."""

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import lakehouse as lh
from lakehouse.schema import Schema

SCHEMA = Schema.parse(
    """
    name = "model"
    key = "id"
    [columns]
    id = { type = "string", nullable = false }
    x = { type = "int64" }
    kind = { type = "category", values = ["a", "b", "c"] }
    image = { type = "image" }
    clip = { type = "video" }
    """
)

keys = st.integers(0, 15).map("k{}".format)
numbers = st.one_of(st.none(), st.integers(-5, 5))
rows = st.fixed_dictionaries(
    {
        "id": keys,
        "x": numbers,
        "kind": st.sampled_from([None, "a", "b", "c"]),
        "image": st.one_of(st.none(), st.binary(max_size=20)),
        "clip": st.one_of(st.none(), st.binary(max_size=20)),
    }
)
batches = st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: row["id"])


@lh.udf(pa.int64(), version="1")
def triple(x: int | None) -> int | None:
    if x == 4:
        raise ValueError("four")
    return None if x is None else 3 * x


class TableAndModel(RuleBasedStateMachine):
    """Every rule is done to both; after each, both hold the same rows."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.table = lh.connect(Path(self.folder) / "lake").create_table("t", schema=SCHEMA)
        self.model = {}
        self.declared = False
        self.filled = {}  # key -> the x its feature was computed from
        self.past = {}  # version -> rows then

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(batch=batches)
    def add(self, batch):
        fresh = [row for row in batch if row["id"] not in self.model]
        result = self.table.add(batch, on_duplicate_key="skip", progress=False)
        assert (result.num_rows, result.num_failed) == (len(fresh), len(batch) - len(fresh))
        self.model |= {row["id"]: row for row in fresh}

    @rule(batch=batches)
    def upsert(self, batch):
        self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch)
        self._forget(row["id"] for row in batch)
        self.model |= {row["id"]: row for row in batch}

    @rule(batch=batches)
    def upsert_of_one_column(self, batch):
        some = [{"id": row["id"], "kind": row["kind"]} for row in batch]
        self.table.merge_insert("id").when_matched_update_all().execute(some)
        for row in some:
            if row["id"] in self.model:
                self.model[row["id"]] = {**self.model[row["id"]], **row}

    @rule(least=st.integers(-5, 5), value=numbers)
    def update(self, least, value):
        hit = [key for key, row in self.model.items() if row["x"] is not None and row["x"] >= least]
        result = self.table.update(("x >= $least", {"least": least}), {"x": value})
        assert result.num_rows == len(hit)
        for key in hit:
            self.model[key] = {**self.model[key], "x": value}
        self._forget(hit)

    @rule(value=numbers)
    def delete(self, value):
        gone = [key for key, row in self.model.items() if row["x"] == value and value is not None]
        result = self.table.delete(("x = $value", {"value": value}))
        assert result.num_rows == len(gone)
        for key in gone:
            del self.model[key]
        self._forget(gone)

    @rule()
    def add_column(self):
        self.table.add_columns({"f": triple, "g": "x + 1"})
        self.declared = True

    @precondition(lambda self: self.declared)
    @rule(limit=st.one_of(st.none(), st.integers(1, 5)))
    def backfill(self, limit):
        lacking = [key for key in self.model if key not in self.filled]
        result = self.table.backfill("f", udf=triple, limit=limit, progress=False)
        assert result.num_rows == min(len(lacking), limit or len(lacking))
        assert result.num_computed == result.num_rows
        self.table.backfill("g", progress=False)
        done = self.table.to_arrow(["id"], where="f__stamp >= 2")["id"].to_pylist()
        self.filled = {key: self.model[key]["x"] for key in done}

    @rule()
    def remember(self):
        self.past[self.table.version] = dict(self.model)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def check_out(self, data):
        version = data.draw(st.sampled_from(sorted(self.past)))
        then = self.table.checkout(version)
        assert _by_key(then.to_arrow(SCHEMA.names)) == self.past[version]

    @rule(data=st.data())
    def read_some(self, data):
        if not self.model:
            return
        wanted = data.draw(st.lists(st.sampled_from(sorted(self.model)), max_size=8))
        assert self.table.get(wanted, SCHEMA.names).to_pylist() == [self.model[key] for key in wanted]
        there = self.table.to_arrow(["id"])["id"].to_pylist()
        offsets = data.draw(st.lists(st.integers(0, len(there) - 1), max_size=8))
        assert self.table.take(offsets, SCHEMA.names).to_pylist() == [self.model[there[i]] for i in offsets]

    @invariant()
    def same_rows(self):
        assert len(self.table) == len(self.model)
        assert _by_key(self.table.to_arrow(SCHEMA.names)) == self.model

    @invariant()
    def a_feature_is_true_or_says_so(self):
        if not self.declared:
            return
        true = {row["id"]: row["f"] for row in self.table.to_arrow(["id", "f"], where="f__stamp = 2").to_pylist()}
        assert true == {key: None if x is None else 3 * x for key, x in self.filled.items() if x != 4}
        if len(true) == len(self.model):
            assert self.table.features()["state"][0].as_py() == "fresh"

    def _forget(self, changed):
        for key in changed:
            self.filled.pop(key, None)


def _by_key(table):
    return {row["id"]: row for row in table.to_pylist()}


TestTableAndModel = TableAndModel.TestCase
TestTableAndModel.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
