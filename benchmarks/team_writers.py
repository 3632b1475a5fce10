"""Ways to add one column to a table that 31 others add theirs to: what each writer's process runs.

All call the same function, which tells each row it is called on, and tell a history each try and what came of it.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import lakehouse as lh
from benchmarks.harness import Arm
from lakehouse._lance import lance
from tests.team.history import History
from tests.team.plan import TABLE, Plan, column_of
from tests.team.writer import Made, Writer, calls_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from tests.team.running import Stage

_TRIES = 50  # of a writer that tries again until it succeeds
_LONGEST_WAIT_S = 0.2  # about what a try takes


def ours(plan: Plan, number: int, stage: Stage) -> None:
    writer = Writer(plan, number)
    stage.together.wait()
    writer.declare()
    writer.fill()
    stage.release_turns()
    stage.together.wait()
    writer.fill()  # the rows that came meanwhile


def add_columns(plan: Plan, number: int, stage: Stage) -> None:
    _add(plan, number, stage, _add_columns, tries=1)


def add_columns_until_done(plan: Plan, number: int, stage: Stage) -> None:
    _add(plan, number, stage, _add_columns, tries=_TRIES)


def merge_columns(plan: Plan, number: int, stage: Stage) -> None:
    _add(plan, number, stage, _merge_columns, tries=1)


def merge_columns_until_done(plan: Plan, number: int, stage: Stage) -> None:
    _add(plan, number, stage, _merge_columns, tries=_TRIES)


WRITERS: dict[str, tuple[Arm, Callable[[Plan, int, Stage], None]]] = {
    "ours": (Arm("lakehouse add_columns + backfill", "ours", "open Table"), ours),
    "add_columns": (Arm("pylance add_columns, once", "plain", "nothing"), add_columns),
    "add_columns_until_done": (
        Arm("pylance add_columns, until it succeeds", "plain", "nothing"),
        add_columns_until_done,
    ),
    "lance_ray": (Arm("lance-ray's merge_columns_from, once", "peer", "nothing"), merge_columns),
    "lance_ray_until_done": (
        Arm("lance-ray's merge_columns_from, until it succeeds", "peer", "nothing"),
        merge_columns_until_done,
    ),
}


def _add(plan: Plan, number: int, stage: Stage, add: Callable[[str, str, Any], int], tries: int) -> None:
    """Add the column, from scratch at every try; the others have a turn at the first."""
    history, rng = History(plan, f"writer-{number:02}"), random.Random(f"{plan.seed}/{number}")
    uri = lh.connect(plan.lake).open_table(TABLE).uri
    stage.together.wait()
    for attempt in range(tries):
        if attempt:
            time.sleep(rng.uniform(0, _LONGEST_WAIT_S))
        try:
            with history.operation("fill", generation=1) as came:
                came["num_filled"] = came["num_computed"] = add(uri, column_of(number), _function(plan, number))
                break
        except (OSError, ValueError, RuntimeError):  # whatever a conflict is told as; it is in the history
            pass
        finally:
            if attempt == 0:
                stage.release_turns()
    stage.together.wait()


def _function(plan: Plan, number: int) -> Any:
    import pyarrow as pa

    made, source = Made(calls_of(plan), number, 1), plan.source_of(number)

    def function(rows: pa.RecordBatch) -> pa.RecordBatch:
        values = made(rows.column("id"), rows.column(source))
        return pa.RecordBatch.from_arrays([values], names=[column_of(number)])

    return function


def _add_columns(uri: str, column: str, function: Any) -> int:
    """As the documentation of pylance has it."""
    import pyarrow as pa

    dataset = lance.dataset(uri)
    schema = pa.schema([pa.field(column, pa.int64())])
    dataset.add_columns(lance.batch_udf(output_schema=schema)(function), read_columns=["id", "x", "y"])
    return int(dataset.count_rows())


def _merge_columns(uri: str, column: str, function: Any) -> int:
    """What lance-ray 0.5.0's `merge_columns_from` does, without Ray: fragments are merged one by one, the commit is tried three times.

    Where the fragments are still the same ones by number, the second and third try name the newest version as the one that was read.
    """
    import pyarrow as pa

    dataset = lance.dataset(uri)
    fragments, schema = [], None
    for fragment in dataset.get_fragments():
        new = function(fragment.to_table(columns=["id", "x", "y"]).combine_chunks().to_batches()[0])
        merged, schema = fragment.merge_columns(pa.RecordBatchReader.from_batches(new.schema, [new]))
        fragments.append(merged)
    operation, version = lance.LanceOperation.Merge(fragments, schema), dataset.version
    for wait_s in (1.0, 2.0, None):
        try:
            lance.LanceDataset.commit(uri, operation, read_version=version)
            break
        except OSError:
            if wait_s is None:
                raise
            time.sleep(wait_s)
            newest = lance.dataset(uri)
            if {f.fragment_id for f in newest.get_fragments()} != {f.id for f in fragments}:
                raise
            version = newest.version
    return int(dataset.count_rows())
