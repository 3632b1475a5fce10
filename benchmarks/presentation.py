"""How results are shown: which figures in which order (data), and the markdown of page and README (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness.estimate import short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Estimate, Goal, Results

TIME = "wall_s"


@dataclass(frozen=True)
class Figure:
    """A metric as readers meet it: its words, and the factor from the stored unit to theirs."""

    metric: str
    words: str
    factor: float = 1.0

    def of(self, results: Results, arm: str, case: str) -> Estimate:
        """Estimate this figure for an arm and case, in the readers' unit."""
        found = results.median(self.metric, arm, case)
        return found.scaled(self.factor)


@dataclass(frozen=True)
class Presentation:
    """What of a benchmark is shown.

    `figures` are the columns of the table and `panels` those of the plot; the table shows `table_cases`, the plot all.
    Where there are many promises, `headlines` are those of the README.
    """

    title: str
    describe: Callable[[Results], str]
    goals: Callable[[Results], Sequence[Goal]]
    figures: Sequence[Figure]
    panels: Sequence[Figure]
    table_cases: Sequence[str]
    remark: str = ""
    headlines: Callable[[Results], Sequence[Goal]] | None = None


def to_summary(results: Results, shown: Presentation, plot: str, page: str) -> str:
    """Write title, the picture and what was promised; `plot` is its address, `page` that of the tables."""
    promises = [goal for goal in (shown.headlines or shown.goals)(results) if goal.promised]
    lines = [_row(["", "reached", "promised", ""]), _row(["---", "---:", "---", "---"])]
    for goal in promises:
        verdict = goal.verdict if goal.verdict == "met" else f"**{goal.verdict}**"
        lines.append(_row([goal.text, str(goal.reached), goal.promised, verdict]))
    table = "\n".join(lines)
    return f"**{shown.title}.** {shown.describe(results)}\n\n[![{shown.title}]({plot})]({page})\n\n{table}"


def to_markdown(results: Results, shown: Presentation, plot: str) -> str:
    """Write title, tables, footnotes, promises and circumstances; `plot` is the address of the picture."""
    tables = [_table(results, shown, case) for case in shown.table_cases if case in results.cases]
    promises = [f"- {goal}" for goal in shown.goals(results)]
    parts = [
        f"**{shown.title}.** {shown.describe(results)}",
        *tables,
        shown.remark,
        "\n".join(promises),
        f"![{shown.title}]({plot})",
        _circumstances(results),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(results: Results, shown: Presentation, case: str) -> str:
    present = [name for name in results.arms if results.has(name, case)]
    first = next((name for name in present if results.arms[name].role == "ours"), present[0])
    rows = [first, *(name for name in present if name != first and results.arms[name].role != "footnote")]
    head = [case, *(figure.words for figure in shown.figures), f"time ÷ {results.arms[first].title}"]
    lines = [_row(head), _row(["---", *["---:"] * (len(head) - 1)])]
    for name in rows:
        cells = [short(figure.of(results, name, case).value) for figure in shown.figures]
        ratio = "1" if name == first else str(results.ratio(TIME, (name, case), (first, case)))
        title = results.arms[name].title
        lines.append(_row([f"**{title}**" if results.arms[name].role == "ours" else title, *cells, ratio]))
    notes = [_footnote(results, shown, case, name, first) for name in present if results.arms[name].role == "footnote"]
    return "\n".join(lines) + "".join(f"\n\n{note}" for note in notes)


def _footnote(results: Results, shown: Presentation, case: str, name: str, first: str) -> str:
    figures = [f"{figure.words} {short(figure.of(results, name, case).value)}" for figure in shown.figures]
    ratio = results.ratio(TIME, (name, case), (first, case))
    return f"<sub>{results.arms[name].title}: {', '.join(figures)}, {ratio} × the time. Not a fair peer; the tuned one is above.</sub>"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _circumstances(results: Results) -> str:
    host = results.host
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    load = " → ".join(f"{results.load_average[when][0]:.1f}" for when in ("before", "after"))
    return (
        f"<sub>{results.num_rounds} rounds, every arm in a fresh process, order random within a round; medians, and of per-round ratios the "
        f"bootstrap 95 % interval. {host['cpu']}, {host['cores']} cores, {host['memory_nbytes'] / 1e9:.0f} GB, Linux {host['kernel']}, "
        f"{host['file_system']}; load average {load}; {versions}; {results.taken_at[:10]}; `{results.command}`.</sub>"
    )
