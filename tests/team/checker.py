"""The verdict on a run, from its histories alone.

Rows computed and rows needed
-----------------------------
*Computed* is every row that a function was called on, as the function itself wrote it down.

*Needed* is a computation that the table asked for: a writer's function, in the version declared at the time (generation),
on a row that was in the table between the begin of the `backfill` and the call, with an input that the row had in that
time; each (column, generation, row, input) once. A row that is appended, and one whose input changed, make new ones. A row that is
computed again though its column's function and its inputs are what they were, because it was moved, or because a commit was refused,
or after its result was lost, is computed and not needed; so is a row that was gone, or had another input, before the
backfill began.

*Landed* is stricter: the rows that backfills say they filled. What was computed from an input that changed before the commit is
needed, as nobody can know, and did not land.
"""

from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tests.team.history import lines, operations
from tests.team.model import Model
from tests.team.plan import cells
from tests.team.writer import calls_of

KINDS = (
    "lost column",
    "lost cell",
    "wrong cell",
    "stale mark missing",
    "duplicate rows",
    "wrong rows",
    "unfilled cells",
    "ledger differs",
)


@dataclass
class Verdict:
    """What a run came to; `violations` is empty if all is well."""

    violations: list[Any] = field(default_factory=list)
    num_versions: int = 0
    num_versions_read: int = 0
    num_fills: int = 0
    least_fills_a_writer: int = 0
    num_computed: int = 0
    num_needed: int = 0
    num_landed: int = 0
    num_rows_compacted: int = 0
    num_compactions_refused: int = 0
    num_out_of_patience: int = 0  # operations that gave up with a ConflictError and were asked for again
    turns: dict[str, int] = field(default_factory=dict)

    def count(self, kind):
        return sum(one["kind"] == kind for one in self.violations)

    @property
    def computed_per_needed(self):
        return self.num_computed / self.num_needed

    @property
    def figures(self):
        found = {f"num_{kind.replace(' ', '_')}": self.count(kind) for kind in KINDS}
        counted = {name: value for name, value in asdict(self).items() if name != "violations"}
        return {
            **found,
            "num_violations": len(self.violations),
            **counted,
            "computed_per_needed": round(self.computed_per_needed, 4),
            "computed_per_landed": round(self.num_computed / self.num_landed, 4),
        }


def check(plan):
    """Judge a run that has ended, and whose reader looked at the table at last."""
    verdict, model = Verdict(), Model(plan)
    _check_versions(plan, model, verdict)
    count_rows(plan, model, verdict)
    everything = operations(plan, "*")
    verdict.num_out_of_patience = sum(one["event"] == "fail" for one in everything)
    done = [one for one in everything if one["event"] == "ok"]
    verdict.turns = {role: sum(one["operation"] == role for one in done) for role in plan.roles if role != "read"}
    compactions = [one for one in done if one["operation"] == "compact"]
    verdict.num_rows_compacted = sum(one["num_rows"] for one in compactions)
    verdict.num_compactions_refused = sum(one["num_tasks_lost"] for one in compactions)
    return verdict


def _check_versions(plan, model, verdict):
    """Hold what the reader saw against the model, and look at what was left at the end."""
    seen = [line for line in lines(f"{plan.folder}/histories", "read.jsonl") if line["event"] == "seen"]
    for line in seen:
        model.move_to(line["version"])
        for one in line["violations"]:
            verdict.violations.append({**one, **_classified(one, model), "version": line["version"]})
        if line["num_duplicates"]:
            verdict.violations.append({"kind": "duplicate rows", **line})
        if (line["num_rows"], line["checksum"]) != (len(model.there), model.checksum()):
            verdict.violations.append({"kind": "wrong rows", "expected": len(model.there), **line})
    verdict.violations += model.wrong
    last = seen[-1]
    for column in plan.columns:
        if column not in last["num_true"]:
            verdict.violations.append({"kind": "lost column", "column": column, **last})
        elif last["num_true"][column] != last["num_rows"]:
            verdict.violations.append({"kind": "unfilled cells", "column": column, **last})
    verdict.num_versions, verdict.num_versions_read = last["version"], len(seen)


def _classified(one, model):
    """A cell that is right for an input the row had before is not wrong: its stale mark is missing."""
    if one["kind"] != "wrong cell" or one["key"] not in model.rows:
        return {}
    before = np.array([each.value for each in model.rows[one["key"]].x], np.int64)
    made = cells(np.full_like(before, one["key"]), before, one["writer"], one["stamp"] // 2)
    return {"kind": "stale mark missing"} if one["value"] in made else {}


def count_rows(plan, model, verdict):
    """Count rows computed, needed and landed, from the histories of the writers and the logs of their functions."""
    fills = [one for one in operations(plan, "writer-*") if one["operation"] == "fill"]
    committed = [one for one in fills if one["event"] == "ok" and one["num_filled"]]
    verdict.num_fills = len(committed)
    verdict.least_fills_a_writer = min(
        sum(one["process"] == f"writer-{w:02}" for one in committed) for w in range(plan.num_writers)
    )
    verdict.num_landed = sum(one["num_filled"] for one in fills if one["event"] == "ok")
    begun = {w: [one["since"] for one in fills if one["process"] == f"writer-{w:02}"] for w in range(plan.num_writers)}
    needed = set()
    for call in lines(calls_of(plan), "*.jsonl"):
        writer, since = call["writer"], begun[call["writer"]]
        since = since[bisect_right(since, call["at"]) - 1]
        verdict.num_computed += len(call["keys"])
        for key, value in zip(call["keys"], call["inputs"], strict=True):
            if _was_there(model, writer, key, value, since, call["at"]):
                needed.add((writer, call["generation"], key, value))
    verdict.num_needed = len(needed)
    told = sum(one["num_computed"] for one in fills if one["event"] == "ok")
    if told != verdict.num_computed and not any(one["event"] == "fail" for one in fills):
        verdict.violations.append({"kind": "rows computed differ", "told": told, "called": verdict.num_computed})


def _was_there(model, writer, key, value, since, until):
    row = model.rows.get(key)
    if row is None:
        return False
    source = model.plan.source_of(writer)
    if source not in ("x", "y"):  # another writer's column: whatever it held, the row was there
        return row.since <= until and row.until >= since
    values = row.x if source == "x" else [row.y]
    return any(one.value == value and one.since <= until and one.until >= since for one in values)
