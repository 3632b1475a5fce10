"""Team: 32 processes add a column each to one table at the same time, alone or while others change its rows.

Run ``python -m benchmarks.team``; see ``--help``. The roles, and what is needed, are those of the team test: `tests.team`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

import lakehouse as lh
from benchmarks.command import main
from benchmarks.harness import Arm, Goal, Outcome, Results
from benchmarks.harness.trial import REPOSITORY
from benchmarks.presentation import Figure, Presentation
from benchmarks.team_writers import WRITERS
from lakehouse._lance import lance
from tests.team.checker import Verdict, count_rows
from tests.team.history import lines
from tests.team.model import Model
from tests.team.plan import TABLE, Plan, cells, numbers
from tests.team.running import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

QUIET, BUSY = "nobody changes rows", "rows appended, deleted, updated"
_MODES = {QUIET: "quiet", BUSY: "append, delete and update"}


@dataclass(frozen=True)
class Team:
    """Add 32 columns at once and count what is left of them; its fields are the command's options."""

    name: ClassVar[str] = "team"
    arms: ClassVar[dict[str, Arm]] = {name: arm for name, (arm, _) in WRITERS.items()}

    num_writers: int = field(default=32, metadata={"help": "processes, each with a column"})
    num_fragments: int = field(default=8, metadata={"help": "of the table at the beginning"})
    fragment_rows: int = field(default=250, metadata={"help": "rows of each"})
    every: int = field(default=4, metadata={"help": "writers that are done or refused between two changes of rows"})
    data: str = field(default="benchmarks/data", metadata={"help": "where tables are built, in the repository"})

    def cases(self, arm: str) -> Sequence[str]:  # noqa: ARG002  # every arm runs every case
        return (QUIET, BUSY)

    def prepare(self, arm: str, case: str) -> None:
        """Nothing: the table is made by the trial."""

    def measure(self, arm: str, case: str, seed: int) -> Outcome:
        folder = REPOSITORY / self.data / self.name / arm
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plan = Plan(
            str(folder),
            _MODES[case],
            seed,
            self.num_writers,
            num_fills=1,
            every=self.every,
            read_every=None,
            num_slices=self.num_fragments,
            slice_rows=self.fragment_rows,
            chained=False,
        )
        run(plan, WRITERS[arm][1])
        # Nothing to compare: how much of the 32 columns an arm delivers is the figure.
        return Outcome(figures(plan), ["counted"])


def figures(plan: Plan) -> dict[str, float]:
    """Count what is left of the columns and of the rows."""
    verdict, model = Verdict(), Model(plan)
    count_rows(plan, model, verdict)
    dataset = lance.dataset(lh.connect(plan.lake).open_table(TABLE).uri)
    model.move_to(dataset.version)
    rows = dataset.to_table()
    told = lines(f"{plan.folder}/histories", "writer-*.jsonl")
    done = {line["process"] for line in told if (line["event"], line["operation"]) == ("ok", "fill")}
    left = [writer for writer, column in enumerate(plan.columns) if column in rows.column_names]
    wrong = [_wrong_and_missing(plan, rows, writer) for writer in left]
    return {
        "num_columns_left": len(left),
        "num_columns_gone_after_success": len(done - {f"writer-{writer:02}" for writer in left}),
        "num_cells_wrong": sum(each[0] for each in wrong),
        "num_cells_missing": sum(each[1] for each in wrong),
        "num_rows_wrong": _num_rows_wrong(rows, model),
        "num_rows_computed": verdict.num_computed,
        "rows_computed_per_cell_right": verdict.num_computed / max(1, len(left) * rows.num_rows - sum(map(sum, wrong))),
        "wall_s": (max(line["at"] for line in told) - min(line["at"] for line in told)) / 1e9,
    }


def _wrong_and_missing(plan: Plan, rows: pa.Table, writer: int) -> tuple[int, int]:
    values = rows[plan.columns[writer]]
    there = np.asarray(values.is_valid())
    right = cells(numbers(rows["id"]), numbers(rows[plan.source_of(writer)]), writer, 1)
    return int(((numbers(values) != right) & there).sum()), int((~there).sum())


def _num_rows_wrong(rows: pa.Table, model: Model) -> int:
    """Count the rows that are back after they were deleted, gone, twice, or without their update."""
    keys = numbers(rows["id"])
    known = {key: model.rows[key].x[-1].value for key in model.there}
    now = dict(zip(keys.tolist(), numbers(rows["x"]).tolist(), strict=True))
    differ = sum(now.get(key) != value for key, value in known.items())
    return differ + len(now.keys() - known.keys()) + len(keys) - len(now)


def goals(results: Results) -> list[Goal]:
    """State what the benchmark promises of us, for the cases that were run."""
    if "ours" not in results.arms:
        return []
    found = []
    for case in results.cases:
        num_writers = results.settings["num_writers"]
        found.append(
            Goal(
                f"{case}: columns left of {num_writers}",
                results.median("num_columns_left", "ours", case),
                at_least=num_writers,
            )
        )
        for metric, words in (
            ("num_cells_wrong", "wrong cells"),
            ("num_cells_missing", "missing cells"),
            ("num_rows_wrong", "wrong rows"),
        ):
            found.append(Goal(f"{case}: {words}", results.median(metric, "ours", case), at_most=0))
    return found


def describe(results: Results) -> str:
    settings = results.settings
    return (
        f"{settings['num_writers']} processes add an int64 column each to one table of {settings['num_fragments'] * settings['fragment_rows']:,} rows in "
        f"{settings['num_fragments']} fragments, all at once; in the second table others append, delete and update rows meanwhile, one of each whenever "
        f"{settings['every']} writers have made their first try. *Until it succeeds* is a loop around it that begins anew after each conflict, at most "
        "50 times. lance-ray's way is its `merge_columns_from` rebuilt from version 0.5.0, without Ray. Wrong rows are deleted ones that are back, and "
        "appends and updates that are gone."
    )


PRESENTATION = Presentation(
    title="A team on one table",
    describe=describe,
    goals=goals,
    figures=(
        Figure("num_columns_left", "columns left"),
        Figure("num_columns_gone_after_success", "gone after success"),
        Figure("num_cells_wrong", "wrong cells"),
        Figure("num_cells_missing", "missing cells"),
        Figure("num_rows_wrong", "wrong rows"),
        Figure("rows_computed_per_cell_right", "rows computed ÷ right cell"),
        Figure("wall_s", "s"),
    ),
    panels=(
        Figure("num_columns_left", "columns left"),
        Figure("rows_computed_per_cell_right", "rows computed ÷ right cell"),
    ),
    table_cases=(QUIET, BUSY),
)

if __name__ == "__main__":
    main(Team, goals)
