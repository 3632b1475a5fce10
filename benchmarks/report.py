"""Turn the results on disk into a page of tables, and the README's plots and promises: ``python -m benchmarks.report``."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import backfill, column_addition, loader, point_query, sql, team, team_soak
from benchmarks.command import RESULTS
from benchmarks.harness import Results
from benchmarks.harness.trial import REPOSITORY
from benchmarks.plot import draw
from benchmarks.presentation import Presentation, to_markdown, to_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PRESENTATIONS: dict[str, Presentation] = {
    "point_query": point_query.PRESENTATION,
    "column_addition": column_addition.PRESENTATION,
    "backfill": backfill.PRESENTATION,
    "team": team.PRESENTATION,
    "loader": loader.PRESENTATION,
    "sql": sql.PRESENTATION,
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


def write_report(results_folder: Path, readme: Path, page: Path) -> list[str]:
    """Draw and tabulate every benchmark that has results; return their names.

    Parameters
    ----------
    results_folder
        Holds NAME.json; NAME.svg is written beside it.
    readme, page
        The files with the markers: the README gets promises and pictures, the page all tables as well.
    """
    texts = {file: file.read_text() for file in (readme, page)}
    done = []

    def put(name: str, file: Path, block: str) -> None:
        texts[file] = inject(texts[file], name, block)

    for name, shown in PRESENTATIONS.items():
        path = results_folder / f"{name}.json"
        if not path.exists():
            continue
        results = Results.load(path)
        picture = path.with_suffix(".svg")
        draw(results, shown, picture)
        put(name, readme, to_summary(results, shown, _address(picture, readme), _address(page, readme)))
        put(name, page, to_markdown(results, shown, _address(picture, page)))
        done.append(name)
    for name, table in SOAKS.items():
        path = results_folder / f"{name}.json"
        if path.exists():
            block = table(json.loads(path.read_text()))
            put(name, readme, block)
            put(name, page, block)
            done.append(name)
    for file, text in texts.items():
        file.write_text(text)
    return done


def _address(file: Path, seen_from: Path) -> str:
    return Path(os.path.relpath(file, seen_from.parent)).as_posix()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--readme", type=Path, default=REPOSITORY / "README.md", help="file with the markers")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs/benchmarks.md", help="page with the markers")
    options = parser.parse_args(arguments)
    try:
        done = write_report(options.results, options.readme, options.page)
    except ValueError as error:
        raise SystemExit(f"{options.readme}, {options.page}: {error}") from error
    print(f"{options.readme}, {options.page}: {', '.join(done) or 'no results yet'}")


if __name__ == "__main__":
    main()
