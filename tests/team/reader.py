"""The reader: whatever version it opens must hold together, and nothing it saw before may be gone.

It reads with Lance alone and knows of the lake only what a stamp says: 2 x generation is a value, 0 or NULL is none.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import lakehouse as lh
from lakehouse._lance import lance
from lakehouse.features.records import ledger
from tests.team.history import History
from tests.team.plan import TABLE, Plan, cells, column_of, numbers

INDEXED = "x"


@dataclass
class Reader:
    """Looks at one version after the other, in order, and tells what it sees.

    Parameters
    ----------
    plan
        Of the run.
    """

    plan: Plan
    _known: dict[int, Any] = field(
        default_factory=dict
    )  # by writer, as last seen: keys, what cells are made of, stamps

    def __post_init__(self):
        self._history = History(self.plan, "read")
        self._table = lh.connect(self.plan.lake).open_table(TABLE)

    def look(self, *, at_the_ledger=False):
        """Read all of the newest version."""
        snapshot = self._table.snapshot()
        dataset = lance.dataset(self._table.uri, version=snapshot.version)
        rows = dataset.to_table()
        keys = numbers(rows["id"])
        found = self._index_differs(dataset, rows)
        stamps = {}
        for writer, column in enumerate(self.plan.columns):
            if column in rows.column_names:
                found += self._wrong_cells(rows, keys, writer) + self._lost_cells(rows, keys, writer)
                stamps[column] = _stamps(rows, column)
            elif writer in self._known:
                found.append({"kind": "lost column", "writer": writer})
        if at_the_ledger:
            found += self._ledger_differs(snapshot, stamps)
        self._history.tell(
            "seen",
            version=dataset.version,
            num_rows=rows.num_rows,
            num_duplicates=rows.num_rows - len(np.unique(keys)),
            checksum=checksum(keys, numbers(rows["x"]), numbers(rows["y"])),
            num_columns=len(stamps),
            num_true={column: int((stamp > 0).sum()) for column, stamp in stamps.items()},
            violations=found,
        )

    def _wrong_cells(self, rows, keys, writer):
        """Find cells that say they are true and are not what the function makes of the inputs beside them."""
        inputs, values = numbers(rows[self.plan.source_of(writer)]), numbers(rows[column_of(writer)])
        stamps = _stamps(rows, column_of(writer))
        wrong = (stamps > 0) & ((stamps % 2 == 1) | (values != cells(keys, inputs, writer, stamps // 2)))
        about = {"key": keys, "value": values, "input": inputs, "stamp": stamps}
        return [
            {"kind": "wrong cell", "writer": writer, **{name: int(column[at]) for name, column in about.items()}}
            for at in np.flatnonzero(wrong)
        ]

    def _lost_cells(self, rows, keys, writer):
        """Find cells that were true or truer when last seen, and are made of the same still."""
        order = np.argsort(keys, kind="stable")
        now = keys[order], self._made_of(rows, writer)[order], _stamps(rows, column_of(writer))[order]
        before = self._known.get(writer, now)
        self._known[writer] = now
        _, then, here = np.intersect1d(before[0], now[0], return_indices=True)
        lost = (before[1][then] == now[1][here]) & (now[2][here] < before[2][then])
        return [
            {"kind": "lost cell", "writer": writer, "key": int(now[0][at]), "stamp": int(now[2][at])}
            for at in here[lost]
        ]

    def _made_of(self, rows, writer):
        """Return what tells the inputs of a column apart; the stamp of one that is a column itself goes before its value."""
        source = self.plan.source_of(writer)
        if source not in self.plan.columns:
            return numbers(rows[source])
        below = self._made_of(rows, self.plan.columns.index(source))
        return cells(below, numbers(rows[source]), writer, _stamps(rows, source))

    def _index_differs(self, dataset, rows):
        """Whether a query through the index on an input gives other rows than reading all of them."""
        if rows.num_rows == 0:
            return []
        values = numbers(rows[INDEXED])
        middle = int(np.median(values))
        through = numbers(dataset.to_table(columns=["id"], filter=f"{INDEXED} >= {middle}")["id"])
        read = numbers(rows["id"])[values >= middle]
        return [] if np.array_equal(np.sort(through), np.sort(read)) else [{"kind": "wrong answer of the index"}]

    def _ledger_differs(self, snapshot, stamps):
        """Whether the lake counts what is there. What was made of values that are to be made again is no cover."""
        told = {row["column"]: row for row in ledger.features(snapshot, remember=True).to_pylist()}
        covered = {c: float(np.mean(stamp >= snapshot.features[c].true_from)) for c, stamp in stamps.items()}
        found = []
        for writer, column in enumerate(self.plan.columns):
            if column in covered:
                counted = min(covered[column], covered.get(self.plan.source_of(writer), 1.0))
                state = told[column]["state"]
                right = state == "running" or (state != "unverified" and (state == "fresh") == (counted == 1.0))
                if not right or abs(told[column]["coverage"] - counted) > 1e-9 or told[column]["num_failed"]:
                    about = {name: told[column][name] for name in ("state", "coverage", "num_failed")}
                    found.append({"kind": "ledger differs", "writer": writer, "told": about, "counted": counted})
        return found


def _stamps(rows, column):
    return np.maximum(numbers(rows[f"{column}__stamp"]), 0)  # NULL means what 0 means


def checksum(keys, x, y):
    """Return a number that is the same for the same rows in any order, and for hardly any others."""
    with np.errstate(over="ignore"):
        return int(np.sum(cells(keys, cells(x, y, 1, 1), 2, 2)))


def read(plan, stage):
    """Be the reader: a version at each turn, the ledger at every fourth; and what is left when all is filled."""
    reader = Reader(plan)
    stage.together.wait()
    for turn in stage.turns_of("read"):
        reader.look(at_the_ledger=turn % 4 == 3)
    stage.together.wait()
    for settled in stage.settled.values():
        settled.wait()
    reader.look(at_the_ledger=True)
