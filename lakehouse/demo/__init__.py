"""``lakehouse demo``: the main job on real input in a minute, without network or account."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lakehouse as lh
from lakehouse.demo.step import Step
from lakehouse.demo.steps import STEPS
from lakehouse.display import Figure, TableView, format_nbytes, report_html, spread_rows
from lakehouse.errors import AlreadyExistsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lakehouse.table import Table

__all__ = ["DemoResult", "Step", "run_demo"]

_DEFAULT = "lakehouse-demo"
_REPORT_ROWS = 27


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and measured.

    Parameters
    ----------
    folder, lake, report
        Where it lies.
    seconds
        How long it took.
    figures
        What each step measured, by the step's name.
    """

    folder: str
    lake: str
    report: str
    seconds: float
    figures: Mapping[str, Mapping[str, Any]]


def run_demo(folder: Path | None = None, say: Callable[[Step], None] = lambda _: None) -> DemoResult:
    """Make a lake of pictures, videos and texts and do the main job on it.

    Parameters
    ----------
    folder
        A folder that is new or empty; None makes ``lakehouse-demo`` here, or the next free name.
    say
        Called with each step when it is done.

    Raises
    ------
    AlreadyExistsError
        Something lies in the folder.
    """
    folder = _new_folder(folder)
    start = time.perf_counter()
    figures = {}
    for step in STEPS:
        done = step(folder)
        figures[step.__name__] = done.figures
        say(done)
    report = folder / "report.html"
    report.write_text(_report(folder, figures), encoding="utf-8")
    told = (f"{report}, {format_nbytes(report.stat().st_size)}, one file, opens without network",)
    say(Step("A report", "", told, {}))
    seconds = time.perf_counter() - start
    return DemoResult(str(folder), str(folder / "lake"), str(report), seconds, figures)


def _new_folder(wanted: Path | None) -> Path:
    if wanted is None:
        names = (_DEFAULT, *(f"{_DEFAULT}-{number}" for number in range(2, 1000)))
        wanted = next(Path(name) for name in names if not Path(name).exists())
    elif wanted.exists() and (not wanted.is_dir() or any(wanted.iterdir())):
        raise AlreadyExistsError(f"{wanted} is not an empty folder; give the demo a new one")
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def _events(table: Table) -> list[dict[str, Any]]:
    """Return what happened to the features of a table, newest last."""
    events = [
        {**event, "column": name}
        for name in table.features()["column"].to_pylist()
        for event in table.column_history(name).to_pylist()
    ]
    return sorted(events, key=lambda event: event["when"])


def _report(folder: Path, figures: Mapping[str, Mapping[str, Any]]) -> str:
    lake = lh.connect(folder / "lake")
    tables = [lake.open_table(name) for name in lake.table_names()]
    views = [
        TableView(t.info(), spread_rows(t.snapshot(), _REPORT_ROWS), t.errors().to_pylist(), _events(t))
        for t in tables
        if len(t)
    ]
    first, second = figures["feature"], figures["together"]
    written = first["nbytes_written"] + second["nbytes_written"]
    kept, all_rows = second["num_resumed"], second["num_resumed"] + second["num_computed"]
    tiles = [
        Figure(format_nbytes(written), "written for three feature columns"),
        Figure(format_nbytes(first["nbytes_untouched"]), "stored before, untouched by that"),
        Figure(f"{kept:,} of {all_rows:,}", "rows not computed again after SIGKILL"),
        Figure(f"{figures['one_row']['seconds'] * 1e3:.1f} ms", "for one picture by its key"),
    ]
    return report_html("A small lake", views, subtitle=f"{folder / 'lake'}, made by lakehouse demo", figures=tiles)
