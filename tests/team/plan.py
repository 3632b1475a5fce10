"""Who works on the table, how much, and what every cell must hold: data and pure functions that all processes share."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

TABLE = "t"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"}),
        pa.field("x", pa.int64()),
        pa.field("y", pa.int64()),
    ]
)

# The roles beside the writers; a reader takes part in all of them.
MODES = {
    "quiet": (),
    "append and delete": ("append", "delete"),
    "update of an input": ("update",),
    "append, delete and update": ("append", "delete", "update"),
    "compaction": ("append", "delete", "compact"),
    "everything": ("append", "delete", "update", "compact", "index"),
}


@dataclass(frozen=True)
class Plan:
    """One run of the team.

    Parameters
    ----------
    folder
        Holds the lake, the histories and the logs of calls.
    mode
        Of `MODES`.
    seed
        Of every choice; which process comes first is nobody's choice.
    num_writers
        Processes, each with a column of its own.
    num_fills
        Calls of `backfill` that committed, a writer, before all come to rest and fill what is left.
    every
        Fills of all writers together between two turns of a role.
    read_every
        The same for the reader; None for none.
    num_slices, slice_rows
        The table begins with a fragment a slice. A row stays in its slice, so that a fill has a few fragments to do.
    batch_rows
        Rows an append; of an update and a delete at most as many.
    chained
        Whether every sixth writer computes from the column of another one.
    """

    folder: str
    mode: str
    seed: int
    num_writers: int
    num_fills: int
    every: int
    read_every: int | None
    num_slices: int = 8
    slice_rows: int = 24
    batch_rows: int = 4
    chained: bool = True

    @property
    def lake(self):
        return str(Path(self.folder) / "lake")

    @property
    def roles(self):
        """Fills between two turns, by role."""
        return dict.fromkeys(MODES[self.mode], self.every) | ({"read": self.read_every} if self.read_every else {})

    @property
    def columns(self):
        return [column_of(writer) for writer in range(self.num_writers)]

    def source_of(self, writer):
        """Return what a writer computes from: an input that is updated, one that is not, or another writer's column."""
        if self.chained and writer % 6 == 5:
            return column_of(writer - 1)
        return "x" if writer % 2 == 0 else "y"

    def num_turns(self, role):
        return self.num_writers * self.num_fills // self.roles[role]

    def in_slice(self, number):
        return f"id % {self.num_slices} = {number}"


def column_of(writer):
    return f"c{writer:02}"


def first_rows(plan, number):
    """Return the rows of the fragment that a slice begins with."""
    return rows_of([number + plan.num_slices * place for place in range(plan.slice_rows)])


def appended_rows(plan, turn):
    """Return what the appender adds at a turn: to each slice in its turn."""
    places = plan.slice_rows + turn // plan.num_slices * plan.batch_rows + np.arange(plan.batch_rows)
    return rows_of((turn % plan.num_slices + plan.num_slices * places).tolist())


def rows_of(keys):
    return pa.table(
        {"id": keys, "x": [7 * key + 1 for key in keys], "y": [11 * key + 2 for key in keys]}, schema=SCHEMA
    )


def cells(keys, inputs, writer, generation):
    """Return what cells must hold: another number for every key, input, writer and generation.

    Parameters
    ----------
    keys, inputs
        int64 arrays of shape (num_rows,).
    generation
        One number, or an int64 array of the same shape.
    """
    with np.errstate(over="ignore"):
        mixed = inputs * np.int64(1_000_003) + keys * np.int64(8_191) + writer * 524_287 + generation * 131_071
        return mixed ^ (mixed >> np.int64(29))


NULL_INPUT = -1  # stands for the NULL of a column that is not filled yet


def numbers(column):
    """Return an Arrow column of int64 as NumPy."""
    return np.asarray(column.fill_null(NULL_INPUT)).astype(np.int64)
