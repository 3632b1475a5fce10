"""A writer: declares its column and fills it slice by slice, over and over with the next version of its function."""

import json
import os
import random
import time
from pathlib import Path

import pyarrow as pa

import lakehouse as lh
from lakehouse.errors import ConflictError
from tests.team.history import History
from tests.team.plan import TABLE, cells, column_of, numbers


class Made:
    """The function: tells every row it is called on to a log of its own.

    Parameters
    ----------
    folder
        Of the logs.
    writer, generation
        Whose it is, and which version.
    """

    def __init__(self, folder: str, writer: int, generation: int) -> None:
        self._writer, self._generation = writer, generation
        Path(folder).mkdir(exist_ok=True)
        self._log = (Path(folder) / f"calls-{writer:02}-{os.getpid()}.jsonl").open("a", buffering=1)

    def __call__(self, key: pa.Array, value: pa.Array) -> pa.Array:
        line = {"at": time.monotonic_ns(), "writer": self._writer, "generation": self._generation}
        self._log.write(json.dumps({**line, "keys": key.to_pylist(), "inputs": value.to_pylist()}) + "\n")
        return pa.array(cells(numbers(key), numbers(value), self._writer, self._generation))

    def close(self) -> None:
        self._log.close()


def calls_of(plan):
    """Return where the functions of a run tell the rows they were called on."""
    return str(Path(plan.folder) / "calls")


def function_of(plan, writer, generation):
    declared = lh.udf(pa.int64(), inputs=["id", plan.source_of(writer)], batch=True)(Made)
    return declared(folder=calls_of(plan), writer=writer, generation=generation)


class Writer:
    """One of the team.

    Parameters
    ----------
    plan
        Of the run.
    number
        Which writer.
    """

    def __init__(self, plan, number):
        self._plan, self._number = plan, number
        self._column = column_of(number)
        self._history = History(plan, f"writer-{number:02}")
        self._table = lh.connect(plan.lake).open_table(TABLE)
        self._rng = random.Random(f"{plan.seed}/{number}")
        self._generation = 0

    def declare(self):
        """Declare the function, the next version of it from the second time on."""
        self._generation += 1
        udf = function_of(self._plan, self._number, self._generation)
        with self._history.operation("declare", generation=self._generation) as came:
            if self._generation == 1:
                came["version"] = self._table.add_columns({self._column: udf})
            else:
                came["version"] = self._table.alter_udf(self._column, udf)
        self._udf = udf

    def fills(self):
        """Fill until it has committed often enough; yields after each fill that did."""
        done = 0
        while True:
            for number in self._rng.sample(range(self._plan.num_slices), self._plan.num_slices):
                where = {"where": self._plan.in_slice(number)}
                if self._rng.random() < 0.125:  # now and then some rows from wherever rows are to be filled
                    where = {"limit": self._plan.slice_rows}
                if self.fill(**where).num_filled == 0:
                    continue
                yield
                done += 1
                if done == self._plan.num_fills:
                    return
            self.declare()

    def fill(self, **where):
        """Fill, again and again where others keep coming first for longer than the lake waits."""
        while True:
            try:
                return self._fill(where)
            except ConflictError:  # the history has it
                pass

    def _fill(self, where):
        with self._history.operation("fill", generation=self._generation, **where) as came:
            result = self._table.backfill(self._column, udf=self._udf, progress=False, **where)
            told = ("version", "num_filled", "num_failed", "num_computed", "num_resumed")
            came |= {name: getattr(result, name) for name in told}
        return result


def write(plan, number, stage):
    """Be writer `number`, from the declaration to the last row."""
    writer = Writer(plan, number)
    stage.together.wait()
    stage.after_source(number, stage.declared)
    writer.declare()
    stage.declared[column_of(number)].set()
    for _ in writer.fills():
        stage.release_turns()
    stage.together.wait()
    stage.after_source(number, stage.settled)
    writer.fill()
    stage.settled[column_of(number)].set()
