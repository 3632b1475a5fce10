"""The rows as they must be at each version: what was appended, deleted and updated, replayed in the order of versions."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.team.history import operations
from tests.team.plan import Plan, first_rows, rows_of
from tests.team.reader import checksum


@dataclass
class Value:
    """What an input was, and when that can have been seen: from the call that wrote it to the end of the one that took it away."""

    value: int
    since: float
    until: float = math.inf


@dataclass
class Row:
    x: list[Value]
    y: Value
    since: float
    until: float = math.inf


@dataclass
class Model:
    """The rows of a run.

    Parameters
    ----------
    plan
        Of the run.
    """

    plan: Plan
    rows: dict[int, Row] = field(default_factory=dict)  # every one there ever was, by key
    there: set[int] = field(default_factory=set)  # keys, at the version it stands at
    wrong: list[Any] = field(default_factory=list)  # answers that differ from what must have happened

    def __post_init__(self):
        for number in range(self.plan.num_slices):
            self._append(first_rows(self.plan, number)["id"].to_pylist(), -math.inf)
        done = operations(self.plan, "append") + operations(self.plan, "delete") + operations(self.plan, "update")
        self._left = sorted((one for one in done if one["event"] == "ok"), key=lambda one: one["version"])

    def move_to(self, version):
        """Apply every operation up to a version."""
        while self._left and self._left[0]["version"] <= version:
            self._apply(self._left.pop(0))

    def checksum(self):
        keys = np.array(sorted(self.there), np.int64)
        x = np.array([self.rows[key].x[-1].value for key in keys.tolist()], np.int64)
        return checksum(keys, x, np.array([self.rows[key].y.value for key in keys.tolist()], np.int64))

    def _apply(self, one):
        hit = [key for key in one["keys"] if key in self.there]
        match one["operation"]:
            case "append":
                self._append(one["keys"], one["since"])
                return
            case "delete":
                self.there -= set(hit)
                for key in hit:
                    self.rows[key].until = self.rows[key].x[-1].until = self.rows[key].y.until = one["at"]
            case "update":
                new = dict(zip(one["keys"], one["to"], strict=True)) if "to" in one else {}
                for key in hit:
                    values = self.rows[key].x
                    values[-1].until = one["at"]
                    values.append(Value(new[key] if new else values[-1].value + one["by"], one["since"]))
        if one["num_rows"] != len(hit):
            self.wrong.append({"kind": "wrong answer", **one})

    def _append(self, keys, since):
        for key, x, y in zip(*rows_of(keys).to_pydict().values(), strict=True):
            self.rows[key] = Row([Value(x, since)], Value(y, since), since)
        self.there |= set(keys)
