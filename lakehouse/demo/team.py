"""The steps of the demo that a team lives through: at once, killed, changed, updated, from outside, and back."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from lakehouse.demo.features import brightness_v2, palette, sharpness
from lakehouse.demo.step import Step, nbytes_changed, nbytes_told, pictures
from lakehouse.display import count
from lakehouse.errors import BackfillError

if TYPE_CHECKING:
    from pathlib import Path

    from lakehouse.table import Table

__all__ = ["changed", "from_outside", "rolled_back", "together", "updated"]

_PARTS = 6  # of 13 batches of 16 rows


def together(folder: Path) -> Step:
    """Fill two columns at the same time, kill one of the two and run it again."""
    table = pictures(folder)
    before = table.info()
    table.add_columns({"sharpness": sharpness, "palette": palette})
    _at_once(folder / "lake", ("ada", "sharpness", ""), ("ben", "palette", str(_PARTS)))
    filled = len(table) - table.count_rows("sharpness IS NULL")
    result = table.backfill("palette", progress=False)
    figures = nbytes_changed(before, table.info())
    computed, kept = result.num_computed, result.num_resumed
    return Step(
        "Two engineers fill a column each at the same time, and the job of one is killed (SIGKILL)",
        't.add_columns({"sharpness": sharpness, "palette": palette})\n'
        't.backfill("sharpness")  # Ada\n'
        't.backfill("palette")  # Ben: killed on the way, and called again',
        (
            f"Ada: {filled:,} of {count(len(table), 'row')}, whatever Ben's job did",
            f"Ben: {kept:,} of {result.num_rows:,} rows were computed before the kill and not again; {computed:,} left",
            nbytes_told(figures),
        ),
        {**figures, "num_computed": computed, "num_resumed": kept, "num_filled_by_other": filled},
    )


def _at_once(lake: Path, *engineers: tuple[str, str, str]) -> None:
    """Start a process for each (name, column, parts to be killed after), and have all begin together."""
    with ExitStack() as stack:
        jobs = [stack.enter_context(_started(lake, *engineer)) for engineer in engineers]
        for job in jobs:
            job.stdout.readline()  # type: ignore[union-attr]  # a pipe
        for job in jobs:
            job.stdin.write("go\n")  # type: ignore[union-attr]
            job.stdin.flush()  # type: ignore[union-attr]
        for (name, _, parts), job in zip(engineers, jobs, strict=True):
            said = job.communicate()[1]
            if job.returncode != (-signal.SIGKILL if parts else 0):
                raise BackfillError(f"the job of {name} ended otherwise than planned: {said.strip()}")


def _started(lake: Path, name: str, column: str, parts: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own command line
        [sys.executable, "-m", "lakehouse.demo.engineer", str(lake), column, *([parts] if parts else [])],
        env={**os.environ, "LAKEHOUSE_AUTHOR": name},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def changed(folder: Path) -> Step:
    """Change a function, fill its column again, then what is computed from it."""
    table = pictures(folder)
    table.add_columns({"dark": "brightness < 0.3"})
    table.backfill("dark", progress=False)
    table.alter_udf("brightness", brightness_v2)
    altered = _states(table)
    first = table.backfill("brightness", progress=False)
    refilled = _states(table)
    second = table.backfill(progress=False)
    return Step(
        "A function changes: old values are never taken for new ones",
        't.add_columns({"dark": "brightness < 0.3"})\n'
        't.backfill("dark")\n'
        't.alter_udf("brightness", brightness_v2)\n'
        't.backfill("brightness")\n'
        "t.backfill()",
        (
            f"altered: {_told(altered)}",
            f"brightness filled again ({count(first.num_computed, 'row')}): {_told(refilled)}",
            f"all filled ({count(second.num_computed, 'row')}): {_told(_states(table))}",
        ),
        {"altered": altered, "refilled": refilled, "num_computed": [first.num_computed, second.num_computed]},
    )


def updated(folder: Path) -> Step:
    """Replace a picture: what was computed from it is stale from that commit on."""
    table = pictures(folder)
    key, retouched = _retouched(table, number=0)
    table.update(("id = $id", {"id": key}), values={"image": retouched})
    stale = _states(table)
    result = table.backfill(progress=False)
    return Step(
        "An input is updated: what depends on it is stale from that commit on",
        't.update(("id = $id", {"id": key}), values={"image": retouched})\nt.backfill()',
        (
            f"one picture of {len(table):,} retouched: {_told(stale)}",
            f"computed again: that row of each, {result.num_computed:,} cells in all",
        ),
        {"states": stale, "num_computed": result.num_computed},
    )


def from_outside(folder: Path) -> Step:
    """Replace a picture by plain LanceDB, which knows nothing of features."""
    import lancedb

    table = pictures(folder)
    key, retouched = _retouched(table, number=1)
    lancedb.connect(folder / "lake").open_table("pictures").update(f"id = '{key}'", {"image": retouched})
    found = _states(table)
    result = table.backfill(progress=False)
    return Step(
        "Somebody writes without this library: what that touched is unverified, never fresh",
        'lancedb.connect("lake").open_table("pictures").update(f"id = \'{key}\'", {"image": retouched})\nt.backfill()',
        (
            f"LanceDB's own update of one picture: {_told(found)}",
            f"computed again: {result.num_computed:,} cells; {_told(_states(table))}",
        ),
        {"states": found, "num_computed": result.num_computed},
    )


def rolled_back(folder: Path) -> Step:
    """Give a column its old values back, and show what happened to it."""
    table = pictures(folder)
    history = table.column_history("brightness").to_pylist()
    first = next(each["version"] for each in history if each["what"] == "filled")
    before = table.info()
    rolled = table.rollback_column("brightness", version=first, progress=False)
    result = table.backfill(progress=False)
    figures = nbytes_changed(before, table.info())
    history = table.column_history("brightness").to_pylist()
    return Step(
        "The old values back, and what happened to the column",
        't.rollback_column("brightness", version=t.column_history("brightness")["version"][1].as_py())\n'
        "t.backfill()\n"
        't.column_history("brightness")',
        (
            f"{rolled.num_true:,} old values are true again, {rolled.num_stale:,} are of other pictures",
            nbytes_told(figures),
            *(_line(each) for each in history),
        ),
        {**figures, "num_true": rolled.num_true, "num_computed": result.num_computed, "history": len(history)},
    )


def _line(event: dict[str, Any]) -> str:
    rows = f", {count(event['num_rows'], 'row')}" if event["num_rows"] else ""
    return f"version {event['version']}: {event['what']}, {event['source'].rpartition(':')[2]}{rows}"


def _told(states: dict[str, str]) -> str:
    columns = [(state, [name for name in states if states[name] == state]) for state in dict.fromkeys(states.values())]
    return "; ".join(f"{', '.join(names)} {state}" for state, names in columns)


def _states(table: Table) -> dict[str, str]:
    return {row["column"]: row["state"] for row in table.features().to_pylist()}


def _retouched(table: Table, number: int) -> tuple[str, bytes]:
    """Return the key of a picture and a lighter version of it."""
    from PIL import ImageEnhance

    key = table.take([number], columns=["id"])["id"][0].as_py()
    stream = io.BytesIO()
    ImageEnhance.Brightness(table[key]["image"].pil().convert("RGB")).enhance(1.5).save(stream, "JPEG")
    return key, stream.getvalue()
