"""Start the team and keep its time.

No process waits for a clock: a role has a turn at every so many fills of the writers, and all come together twice,
before the first declaration and before the last fill.
"""

import multiprocessing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import lakehouse as lh
from tests.team.plan import TABLE, first_rows
from tests.team.reader import read
from tests.team.roles import play
from tests.team.writer import write


@dataclass(frozen=True)
class Stage:
    """What the processes share.

    Parameters
    ----------
    plan
        Of the run.
    together
        Where all wait for all.
    fills
        By role, the fills that it has not counted yet.
    declared, settled
        By column, whether others can compute from it, and whether it changes no more.
    """

    plan: Any
    together: Any
    fills: Any
    declared: Any
    settled: Any

    @classmethod
    def of(cls, plan, context):
        fills = {role: context.Semaphore(0) for role in plan.roles}
        together = context.Barrier(plan.num_writers + len(plan.roles))
        declared, settled = ({column: context.Event() for column in plan.columns} for _ in range(2))
        return cls(plan, together, fills, declared, settled)

    def after_source(self, number, events):
        """Wait until the column that a writer computes from, if another writer fills it, is that far."""
        if (source := self.plan.source_of(number)) in events:
            events[source].wait()

    def release_turns(self):
        """Tell all roles that a fill was committed."""
        for fills in self.fills.values():
            fills.release()

    def turns_of(self, role):
        """Yield the turns of a role, each when it is due."""
        for turn in range(self.plan.num_turns(role)):
            for _ in range(self.plan.roles[role]):
                self.fills[role].acquire()
            yield turn


def make_table(plan):
    """Make the table, a fragment a slice."""
    table = lh.connect(plan.lake).create_table(TABLE, data=first_rows(plan, 0))
    for number in range(1, plan.num_slices):
        table.add(first_rows(plan, number), progress=False)
    return table


def run(plan, write=write):
    """Make the table, run all processes, and leave histories and calls in the plan's folder.

    Parameters
    ----------
    plan
        Of the run.
    write
        What a writer does.
    """
    make_table(plan)
    context = multiprocessing.get_context("spawn")
    stage = Stage.of(plan, context)
    processes = [
        context.Process(target=write, name=column, args=(plan, number, stage))
        for number, column in enumerate(plan.columns)
    ]
    for role in plan.roles:
        target = read if role == "read" else partial(play, role)
        processes.append(context.Process(target=target, name=role, args=(plan, stage)))
    for process in processes:
        process.start()
    try:
        _wait_for(processes)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _wait_for(processes):
    """Wait until all have ended; the first that failed ends the run."""
    left = {process.sentinel: process for process in processes}
    while left:
        for sentinel in wait(left):
            ended = left.pop(sentinel)
            ended.join()
            assert ended.exitcode == 0, f"{ended.name} ended with {ended.exitcode}; its error is above"
