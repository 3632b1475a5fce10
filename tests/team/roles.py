"""The others: an appender, a deleter, an updater of an input, a compactor, an indexer. Each is a process."""

import random

import pyarrow as pa

import lakehouse as lh
from lakehouse._lance import lance
from lakehouse.errors import ConflictError
from tests.team.history import History
from tests.team.plan import SCHEMA, TABLE, appended_rows, column_of


class Role:
    """One of the others.

    Parameters
    ----------
    plan
        Of the run.
    name
        Which: a method of this class.
    """

    def __init__(self, plan, name):
        self._plan, self._name = plan, name
        self._history = History(plan, name)
        self._table = lh.connect(plan.lake).open_table(TABLE)
        self._rng = random.Random(f"{plan.seed}/{name}")

    def take(self, turn):
        """Do what is due, again and again where the writers keep coming first for longer than the lake waits."""
        while True:
            try:
                return getattr(self, self._name)(turn)
            except ConflictError:  # the history has it
                pass

    def append(self, turn):
        rows = appended_rows(self._plan, turn)
        with self._history.operation("append", keys=rows["id"].to_pylist()) as came:
            came["version"] = self._table.add(rows, progress=False).version

    def delete(self, turn):
        """Delete a few rows of a slice, or all that was appended to it at once: its whole fragment then."""
        keys = appended_rows(self._plan, turn // 2)["id"].to_pylist() if turn % 2 else self._some_keys()
        with self._history.operation("delete", keys=keys) as came:
            done = self._table.delete(_among(keys))
            came |= {"version": done.version, "num_rows": done.num_rows}

    def update(self, turn):
        """Give rows of a slice an `x` they never had, by `update` and by `merge_insert` in turns."""
        keys, by = self._some_keys(), 1_000_000 * (turn + 1)
        if turn % 2:
            with self._history.operation("update", keys=keys, by=by) as came:
                done = self._table.update(_among(keys), values_sql={"x": f"x + {by}"})
                came |= {"version": done.version, "num_rows": done.num_rows}
            return
        to = by * (turn + 1)  # more than all that updates added since the last time
        data = pa.table(
            {"id": keys, "x": [to + key for key in keys]}, schema=pa.schema([SCHEMA.field("id"), SCHEMA.field("x")])
        )
        with self._history.operation("update", keys=keys, to=data["x"].to_pylist()) as came:
            done = self._table.merge_insert("id").when_matched_update_all().execute(data)
            came |= {"version": done.version, "num_rows": done.num_rows}

    def compact(self, turn):
        """Compact, and in every second turn as somebody who knows nothing of the lake and its leases."""
        target = 2 * self._plan.slice_rows
        with self._history.operation("compact", by_lance=turn % 2 == 1) as came:
            if turn % 2 == 0:
                done = self._table.compact(target_rows_per_fragment=target, progress=False)
                came |= {"num_rows": done.num_rows_moved, "num_tasks_lost": done.num_tasks_lost}
                came["num_left_alone"] = sum(len(left.fragment_ids) for left in done.left)
                return
            dataset = lance.dataset(self._table.uri)
            before = {each.fragment_id: each.count_rows() for each in dataset.get_fragments()}
            try:
                dataset.optimize.compact_files(target_rows_per_fragment=target, max_source_fragments=4)
            except OSError as error:  # how Lance tells a conflict here; its users would try again some time
                came |= {"num_rows": 0, "num_tasks_lost": 1, "refused": str(error)[:200]}
            else:
                gone = before.keys() - {each.fragment_id for each in dataset.get_fragments()}
                came |= {"num_rows": sum(before[each] for each in gone), "num_tasks_lost": 0}

    def index(self, turn):
        """Index an input, then a feature, then keep both up."""
        with self._history.operation("index") as came:
            if turn < 2:
                column = ("x", column_of(0))[turn]
                came["version"] = self._table.create_index(column, lh.BTree())
            else:
                came["version"] = self._table.optimize_indices()

    def _some_keys(self):
        place = self._plan.in_slice(self._rng.randrange(self._plan.num_slices))
        there = sorted(self._table.to_arrow(["id"], where=place)["id"].to_pylist())
        return self._rng.sample(there, min(self._plan.batch_rows, len(there)))


def _among(keys):
    return f"id IN ({', '.join(map(str, keys))})"


def play(name, plan, stage):
    """Take the turns of a role, and say when all are taken."""
    role = Role(plan, name)
    stage.together.wait()
    for turn in stage.turns_of(name):
        role.take(turn)
    stage.together.wait()
