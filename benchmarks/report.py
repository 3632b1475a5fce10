"""Turn the results on disk into the README's tables and plots: ``python -m benchmarks.report``."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import backfill, column_addition, point_query, team, team_soak
from benchmarks.command import RESULTS
from benchmarks.harness import Results
from benchmarks.harness.trial import REPOSITORY
from benchmarks.plot import draw
from benchmarks.presentation import Presentation, to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PRESENTATIONS: dict[str, Presentation] = {
    "point_query": point_query.PRESENTATION,
    "column_addition": column_addition.PRESENTATION,
    "backfill": backfill.PRESENTATION,
    "team": team.PRESENTATION,
}
# Figures that a soak keeps, with what makes a table of them.
SOAKS: dict[str, Callable[[dict[str, Any]], str]] = {"soak_team": team_soak.to_markdown}


def inject(text: str, name: str, block: str) -> str:
    """Replace what stands between ``<!-- bench:NAME -->`` and the next ``<!-- /bench -->``.

    Raises
    ------
    ValueError
        `text` has no such pair of markers, or several.

    Examples
    --------
    >>> inject("a <!-- bench:x -->old<!-- /bench --> b", "x", "new")
    'a <!-- bench:x -->\\nnew\\n<!-- /bench --> b'
    """
    start, end = f"<!-- bench:{name} -->", "<!-- /bench -->"
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    found, count = between.subn(lambda _: f"{start}\n{block}\n{end}", text)
    if count != 1:
        raise ValueError(f"expected one {start} … {end} in the text, found {count}")
    return found


def write_report(results_folder: Path, readme: Path) -> list[str]:
    """Draw and tabulate every benchmark that has results; return their names.

    Parameters
    ----------
    results_folder
        Holds NAME.json; NAME.svg is written beside it.
    readme
        The file with the markers.
    """
    text = readme.read_text()
    done = []
    for name, shown in PRESENTATIONS.items():
        path = results_folder / f"{name}.json"
        if not path.exists():
            continue
        results = Results.load(path)
        picture = path.with_suffix(".svg")
        draw(results, shown, picture)
        address = Path(os.path.relpath(picture, readme.parent)).as_posix()
        text = inject(text, name, to_markdown(results, shown, address))
        done.append(name)
    for name, table in SOAKS.items():
        path = results_folder / f"{name}.json"
        if path.exists():
            text = inject(text, name, table(json.loads(path.read_text())))
            done.append(name)
    readme.write_text(text)
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--readme", type=Path, default=REPOSITORY / "README.md", help="file with the markers")
    options = parser.parse_args(arguments)
    try:
        done = write_report(options.results, options.readme)
    except ValueError as error:
        raise SystemExit(f"{options.readme}: {error}") from error
    print(f"{options.readme}: {', '.join(done) or 'no results yet'}")


if __name__ == "__main__":
    main()
