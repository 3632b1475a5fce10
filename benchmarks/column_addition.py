"""Column addition: one float64 column on tables with and without media, in ten fragments.

Run ``python -m benchmarks.column_addition``; see ``--help``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmarks.building import built_once, sources_of
from benchmarks.column_writers import WRITERS, Writer
from benchmarks.command import main
from benchmarks.folders import listing, make_durable, total_nbytes, working_copy
from benchmarks.harness import Arm, Goal, Outcome, Results
from benchmarks.harness.instruments import Meter, warm_page_cache
from benchmarks.harness.trial import REPOSITORY
from benchmarks.media import MediaRows
from benchmarks.presentation import Figure, Presentation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEDIA, NO_MEDIA, MORE_ROWS = "rows with media", "same rows, no media", "more rows, no media"
_FLOAT64_NBYTES = 8
_WARM_UP = MediaRows(num_rows=1000, median_nbytes=0)


@dataclass(frozen=True)
class ColumnAddition:
    """Add a column and compare bytes written, bytes kept and time; its fields are the command's options."""

    name: ClassVar[str] = "column_addition"
    arms: ClassVar[dict[str, Arm]] = {name: writer.arm for name, writer in WRITERS.items()}

    num_rows: int = field(default=20_000, metadata={"help": "rows of the tables with and without media"})
    media_nbytes: int = field(default=50_000, metadata={"help": "size of each image"})
    num_more_rows: int = field(default=100_000, metadata={"help": "rows of the larger table without media"})
    num_fragments: int = field(default=10, metadata={"help": "files the rows are in, where a system has such"})
    data: str = field(default="benchmarks/data", metadata={"help": "where tables are built, in the repository"})

    def cases(self, arm: str) -> Sequence[str]:  # noqa: ARG002  # every arm runs every case
        return (MEDIA, NO_MEDIA, MORE_ROWS)

    def prepare(self, arm: str, case: str) -> None:
        for rows in (_WARM_UP, self._rows(case)):
            self._built(WRITERS[arm], rows)

    def measure(self, arm: str, case: str, seed: int) -> Outcome:  # noqa: ARG002  # nothing here is drawn
        self._add(WRITERS[arm], _WARM_UP)  # loads libraries and starts thread pools
        return self._add(WRITERS[arm], self._rows(case))

    def _add(self, kind: type[Writer], rows: MediaRows) -> Outcome:
        built = self._built(kind, rows)
        untouched = listing(built)
        copy = working_copy(built, self._folder / "copies" / f"{kind.layout}-{os.getpid()}", kind.immutable)
        try:
            warm_page_cache(copy)
            outcome = add_on(kind(copy), copy, rows)
        finally:
            shutil.rmtree(copy)
        if listing(built) != untouched:
            raise RuntimeError(f"{kind.arm.title} changed a file in place that it was thought to leave alone")
        return outcome

    def _rows(self, case: str) -> MediaRows:
        num_rows = self.num_more_rows if case == MORE_ROWS else self.num_rows
        return MediaRows(num_rows, self.media_nbytes if case == MEDIA else 0)

    def _built(self, kind: type[Writer], rows: MediaRows) -> Path:
        folder = self._folder / f"{rows.name}_{self.num_fragments}-fragments" / kind.layout
        return built_once(folder, lambda empty: kind.build(empty, rows, self.num_fragments), sources_of(kind, kind.arm))

    @property
    def _folder(self) -> Path:
        return REPOSITORY / self.data / self.name


def add_on(writer: Writer, folder: Path, rows: MediaRows) -> Outcome:
    """Add the column, count what it took, and hash every value of the table afterwards.

    Times include flushing what was written to the disk, whoever does it: systems differ in what they flush themselves.
    """
    before = listing(folder)
    with Meter() as meter:
        start_s = time.perf_counter()
        writer.add()
        call_s = time.perf_counter() - start_s
        make_durable(folder, before)
    usage = meter.usage
    nbytes_added = total_nbytes(listing(folder)) - total_nbytes(before)
    column_nbytes = rows.num_rows * _FLOAT64_NBYTES
    metrics = {
        "nbytes_added_per_column_nbyte": nbytes_added / column_nbytes,
        "written_nbytes_per_column_nbyte": usage.written_nbytes / column_nbytes,
        "nbytes_added": nbytes_added,
        "written_nbytes": usage.written_nbytes,
        "writes": usage.writes,
        "read_nbytes": usage.read_nbytes,
        "reads": usage.reads,
        "wall_s": usage.wall_s,
        "call_s": call_s,
        "cpu_s": usage.cpu_s,
    }
    return Outcome(metrics, [digest(writer, rows)])


def digest(writer: Writer, rows: MediaRows) -> str:
    """Hash positions, the new column and every image, in the order the table gives them."""
    numbers, images = hashlib.sha256(), hashlib.sha256()
    media = ["image"] if rows.median_nbytes else []
    for batch in writer.scan(["position", "f", *media]):
        numbers.update(np.stack([batch["position"].to_numpy(), batch["f"].to_numpy(zero_copy_only=False)]).tobytes("F"))
        for name in media:
            for image in batch[name]:
                images.update(image.as_buffer())
    return numbers.hexdigest() + images.hexdigest()


def goals(results: Results) -> list[Goal]:
    """State what the benchmark promises of us, for the arms that were run."""
    if "ours" not in results.arms:
        return []
    kept = "nbytes_added_per_column_nbyte"
    found = [
        Goal(f"{MEDIA}: bytes added ÷ column", results.median(kept, "ours", MEDIA), at_most=1.06),
        Goal(f"{MORE_ROWS}: bytes added ÷ column", results.median(kept, "ours", MORE_ROWS), at_most=1.015),
        Goal("time with media ÷ without", results.ratio("wall_s", ("ours", MEDIA), ("ours", NO_MEDIA)), at_most=1.2),
    ]
    if "parquet_rewrite" in results.arms:
        rewrite, ours = ("parquet_rewrite", MEDIA), ("ours", MEDIA)
        fewer = results.ratio("written_nbytes", rewrite, ours)
        found.append(Goal(f"{MEDIA}: bytes the Parquet rewrite writes ÷ ours", fewer, at_least=5000))
        found.append(Goal(f"{MEDIA}: time of the Parquet rewrite ÷ ours", results.ratio("wall_s", rewrite, ours)))
    for arm in ("duckdb", "pylance_add_columns"):
        if arm in results.arms:
            ratio = results.ratio("wall_s", ("ours", NO_MEDIA), (arm, NO_MEDIA))
            found.append(Goal(f"{NO_MEDIA}: time ÷ {results.arms[arm].title}", ratio))
    return found


def describe(results: Results) -> str:
    settings = results.settings
    return (
        f"One float64 column, computed from another, added to {settings['num_rows']:,} rows with an image of {settings['media_nbytes'] / 1e3:g} KB each, "
        f"to as many rows without, and to {settings['num_more_rows']:,} rows without, in {settings['num_fragments']} files. Tables are open; "
        "times end when all that was written is flushed to the disk; every value of the table is compared across arms afterwards."
    )


PRESENTATION = Presentation(
    title="Adding a column",
    describe=describe,
    goals=goals,
    figures=(
        Figure("written_nbytes_per_column_nbyte", "bytes written ÷ column"),
        Figure("nbytes_added_per_column_nbyte", "bytes kept ÷ column"),
        Figure("wall_s", "ms", 1e3),
        Figure("cpu_s", "CPU ms", 1e3),
    ),
    panels=(Figure("written_nbytes_per_column_nbyte", "bytes written ÷ column"), Figure("wall_s", "ms", 1e3)),
    table_cases=(MEDIA, NO_MEDIA, MORE_ROWS),
)

if __name__ == "__main__":
    main(ColumnAddition, goals)
