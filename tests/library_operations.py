"""The operations of the library on one small table, the moments at which each can be stopped, and what must hold after.

The operations touch the same rows. What two of them leave behind is what they leave one after the other, in the order of
their commits; a model of the rows says what that is.
"""

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import lancedb
import pyarrow as pa

import lakehouse as lh
from lakehouse import commit, ingest
from lakehouse._lance import lance
from lakehouse.errors import (
    BackfillError,
    ColumnNotFoundError,
    ConflictError,
    LakehouseError,
    SchemaError,
)
from lakehouse.features.jobs.todo import Todo
from lakehouse.features.storing import landing

ROWS, FRAGMENTS = 20, 2
COLUMNS = {"x", "other", "f", "g", "d"}
FACTORS = {1: 3, 2: 5, 3: 7}  # of each function of `f`, so that a value says what made it

calls = []


def multiplied(number):
    def multiply(x: int) -> int:
        calls.append(x)
        return FACTORS[number] * x

    return lh.udf(pa.int64(), version=str(number))(multiply)


UDFS = {number: multiplied(number) for number in FACTORS}
BY_HASH = {udf.code_hash: (udf, FACTORS[number]) for number, udf in UDFS.items()}


def make(folder):
    """Make the table: `f` filled and then altered, `d` computed from it and half filled, `g` declared."""
    schema = pa.schema(
        [
            pa.field("id", pa.int64(), False, {"lakehouse:key": "true"}),
            pa.field("x", pa.int64()),
            pa.field("other", pa.int64()),
        ]
    )
    table = lh.connect(folder).create_table("t", schema=schema)
    for start in range(0, ROWS * FRAGMENTS, ROWS):
        table.add(({"id": n, "x": n, "other": n} for n in range(start, start + ROWS)), progress=False)
    table.add_columns({"f": UDFS[1]})
    table.add_columns({"d": "f + 1"})
    table.backfill(["f"], udf=UDFS[1], progress=False)
    table.tag("first")
    table.backfill(["d"], limit=ROWS * FRAGMENTS // 2, progress=False)
    table.alter_udf("f", UDFS[2])
    table.add_columns({"g": "x + 1"})
    table.create_index("other", lh.BTree())


@dataclass
class Model:
    """What the table holds, but for the features.

    Parameters
    ----------
    rows
        By id.
    names
        What the columns there at the start are called now; None if they were dropped.
    foreign
        Rows of which another library changed an input, without a word to anybody.
    new
        Columns that were not there at the start.
    """

    rows: dict[int, dict[str, Any]] = field(
        default_factory=lambda: {n: {"x": n, "other": n} for n in range(ROWS * FRAGMENTS)},
    )
    names: dict[str, str | None] = field(default_factory=lambda: {name: name for name in COLUMNS})
    foreign: set[int] = field(default_factory=set)
    new: set[str] = field(default_factory=set)


# The operations: what is called, and what it does to the model. `n` is 0 for the first of two, 1 for the second.


def _name(table, column):
    """Say what a column is called now, as somebody does who has just looked."""
    return f"{column}2" if f"{column}2" in table.schema.names else column


def _backfill_f(table, n):
    feature = table.snapshot().features.get(_name(table, "f"))
    udf = BY_HASH[feature.code_hash][0] if feature else UDFS[2]
    table.backfill(_name(table, "f"), udf=udf, progress=False)


def _upsert(table, n):
    upsert = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    upsert.execute([{"id": key, _name(table, "x"): -7, "other": -7} for key in (3, 999)])


def _roll_back(table, n):
    table.rollback_column(_name(table, "f"), version=table.tags()["first"], progress=False)


def _import(table, n):
    data = pa.table({"id": range(0, ROWS * FRAGMENTS, 2), f"label{n}": range(0, ROWS * FRAGMENTS, 2)})
    table.add_columns_from(data, progress=False)


def _foreign(table, n):
    place, name = table.uri.rsplit("/", 1)
    theirs = lancedb.connect(place).open_table(name.removesuffix(".lance"))
    theirs.update(where="id IN (3, 33)", values_sql={_name(table, "x"): f"{_name(table, 'x')} + 1000"})


def _changed(column, keys, by):
    def change(model, n):
        for key in keys & model.rows.keys():
            row = model.rows[key]
            row[column] += by

    return change


def _foreign_change(model, n):
    _changed("x", {3, 33}, 1000)(model, n)
    model.foreign |= {3, 33} & model.rows.keys()


def _upserted(model, n):
    model.rows |= {key: {"x": -7, "other": -7} for key in (3, 999)}
    model.foreign -= {3}


def _dropped(*names):
    return lambda model, n: model.names.update(dict.fromkeys(names))


def _renamed(name):
    return lambda model, n: model.names.update({name: f"{name}2"})


def _nothing(model, n):
    """Rows and names stay as they are."""


OPERATIONS = {
    "backfill f": (_backfill_f, _nothing),
    "backfill g": (lambda t, n: t.backfill("g", progress=False), _nothing),
    "backfill d, of f": (lambda t, n: t.backfill("d", progress=False), _nothing),
    "add": (
        lambda t, n: t.add([{"id": 1000 + n, _name(t, "x"): 8}], progress=False),
        lambda m, n: m.rows.update({1000 + n: {"x": 8, "other": None}}),
    ),
    "update x": (
        lambda t, n: t.update("id IN (3, 23)", values_sql={_name(t, "x"): f"{_name(t, 'x')} + 100"}),
        _changed("x", {3, 23}, 100),
    ),
    "update other": (
        lambda t, n: t.update("id IN (3, 23)", values_sql={"other": "other + 100"}),
        _changed("other", {3, 23}, 100),
    ),
    "upsert": (_upsert, _upserted),
    "delete": (
        lambda t, n: t.delete("id IN (3, 31)"),
        lambda m, n: [m.rows.pop(key, None) for key in (3, 31)],
    ),
    "add column": (
        lambda t, n: t.add_columns({f"new{n}": pa.field(f"new{n}", pa.int64())}),
        lambda m, n: m.new.add(f"new{n}"),
    ),
    "drop other": (lambda t, n: t.drop_columns(["other"]), _dropped("other")),
    "drop f and d": (lambda t, n: t.drop_columns([_name(t, "f"), "d"]), _dropped("f", "d")),
    "rename f": (lambda t, n: t.rename_column("f", "f2"), _renamed("f")),
    "rename x": (lambda t, n: t.rename_column("x", "x2"), _renamed("x")),
    "alter f": (lambda t, n: t.alter_udf(_name(t, "f"), UDFS[3]), _nothing),
    "accept f": (lambda t, n: t.accept(_name(t, "f")), _nothing),
    "roll back f": (_roll_back, _nothing),
    "import a column": (_import, lambda m, n: m.new.add(f"label{n}")),
    "compact": (lambda t, n: t.compact(progress=False), _nothing),
    "compact by Lance": (lambda t, n: t.snapshot().dataset.optimize.compact_files(), _nothing),
    "index x": (lambda t, n: t.create_index(_name(t, "x"), lh.BTree()), _nothing),
    "index f": (lambda t, n: t.create_index(_name(t, "f"), lh.BTree()), _nothing),
    "optimize indices": (lambda t, n: t.optimize_indices(), _nothing),
    "update x by LanceDB": (_foreign, _foreign_change),
}

# Where an operation can be stopped: before or after a call, of several the first. Lance stages and commits in one what
# it builds itself; a declaration stages nothing.
PLANNED, STAGED, BEFORE, AFTER = "planned", "staged", "before commit", "after commit"
_VERY_COMMIT = {BEFORE: (lance.LanceDataset, "commit", "before"), AFTER: (lance.LanceDataset, "commit", "after")}
_FILL = {PLANNED: (Todo, "rows", "before"), STAGED: (landing, "commit_staged", "before"), **_VERY_COMMIT}
_ADD = {PLANNED: (ingest, "as_source", "after"), STAGED: (commit, "commit_operation", "before"), **_VERY_COMMIT}
_IMPORT = {PLANNED: (commit, "retrying", "before"), STAGED: (commit, "commit_operation", "before"), **_VERY_COMMIT}
_DECLARE = {PLANNED: (commit, "commit_operation", "before"), **_VERY_COMMIT}
_BUILT_BY_LANCE = {
    PLANNED: (commit, "retrying", "before"),
    BEFORE: (commit, "newest", "after"),
    AFTER: (commit, "retrying", "after"),
}


SIGNS = {BackfillError: "B", ConflictError: "W", ColumnNotFoundError: "N", SchemaError: "S"}


def moments(name):
    """Return the phases of an operation, each with the call before or after which it is there."""
    if name.startswith("backfill"):
        return _FILL
    if name in ("alter f", "accept f", "roll back f"):
        return _DECLARE
    return {"add": _ADD, "import a column": _IMPORT}.get(name, _BUILT_BY_LANCE)


@contextmanager
def once(owner, attribute, when, action):
    """Run `action` before or after the first call of a function."""
    real = getattr(owner, attribute)

    def stopping(*args, **options):
        setattr(owner, attribute, real)
        if when == "before":
            action()
        answer = real(*args, **options)
        if when == "after":
            action()
        return answer

    setattr(owner, attribute, stopping)
    try:
        yield
        assert getattr(owner, attribute) is real, f"{attribute} was never called"
    finally:
        setattr(owner, attribute, real)


def outcome(folder, first, phase, second, *, to_the_end=False):
    """Stop `first` at a phase, do `second` through another handle, let `first` go on; return the sign of what came of it.

    Parameters
    ----------
    to_the_end
        Fill afterwards what is left, and check again.
    """
    table, model, refused = lh.connect(folder).open_table("t"), Model(), {}
    calls.clear()

    def do(name, handle, n):
        call, change = OPERATIONS[name]
        try:
            call(handle, n)
        except LakehouseError as error:
            refused[n] = SIGNS[type(error)].lower()
        else:
            change(model, n)

    def meanwhile():
        if phase == AFTER:
            OPERATIONS[first][1](model, 0)
        before = len(calls)
        do(second, lh.connect(folder).open_table("t"), 1)
        del calls[before:]

    owner, attribute, when = moments(first)[phase]
    with once(owner, attribute, when, meanwhile):
        call, change = OPERATIONS[first]
        try:
            call(table, 0)
        except LakehouseError as error:
            refused[0] = SIGNS[type(error)]
        else:
            if phase != AFTER:
                change(model, 0)
    again = len(calls) - ROWS * FRAGMENTS if first == "backfill f" else 0
    check(table, model)
    if to_the_end:
        settle(table, model)
    if refused:
        return "".join(sign for _, sign in sorted(refused.items()))
    return str(again) if again > 0 else "."


def check(table, model):
    """No row or column lost, none twice, and what is called true is true."""
    names, dataset = model.names, lance.dataset(table.uri)
    there = {name for name in dataset.schema.names if not name.endswith("__stamp")} - {"id"}
    assert there == {name for name in names.values() if name} | model.new
    rows = {row["id"]: row for row in dataset.to_table().to_pylist()}
    assert len(rows) == dataset.count_rows()
    assert {key: row[names["x"]] for key, row in rows.items()} == {key: row["x"] for key, row in model.rows.items()}
    if names["other"]:
        assert {key: row["other"] for key, row in rows.items()} == {k: row["other"] for k, row in model.rows.items()}
    features, states = table.snapshot().features, states_of(table)
    for key, row in rows.items():
        for name, feature in features.items():
            stamp, x = row[feature.stamp] or 0, row[names["x"]]
            if stamp < feature.true_from or (key in model.foreign and states[name] != "fresh"):
                continue
            if name == "g":
                assert row[name] == x + 1, (name, row)
            elif name == "d":
                f = row[names["f"]]
                assert row[name] == (None if f is None else f + 1), (name, row)
            elif name.startswith("label"):
                assert row[name] == (key if key < ROWS * FRAGMENTS and key % 2 == 0 else None), (name, row)
            else:
                generation = stamp // 2
                factor = BY_HASH[feature.code_hash][1] if generation == feature.generation else FACTORS[generation]
                assert row[name] == factor * x, (name, row)


def states_of(table):
    known = table.features()
    return dict(zip(known["column"].to_pylist(), known["state"].to_pylist(), strict=True))


def settle(table, model):
    """Fill what is left: then all of it is true."""
    features = table.snapshot().features
    for name, feature in features.items():
        if feature.kind != "data":
            udf = BY_HASH[feature.code_hash][0] if feature.kind == "udf" else None
            table.backfill(name, udf=udf, progress=False)
    assert {state for name, state in states_of(table).items() if features[name].kind != "data"} <= {"fresh"}
    model.foreign.clear()
    check(table, model)
