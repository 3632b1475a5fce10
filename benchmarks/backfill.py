"""Backfill: bytes, the fixed part, the time of a row, sharing of inputs and of cores.

Run ``python -m benchmarks.backfill``; see ``--help``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmarks import backfill_functions as functions
from benchmarks import backfill_tables, media
from benchmarks.backfill_fillers import FILLERS
from benchmarks.backfill_tables import TableOf
from benchmarks.building import built_once
from benchmarks.command import main
from benchmarks.folders import listing, make_durable, total_nbytes, working_copy
from benchmarks.harness import Arm, Goal, Outcome, Results
from benchmarks.harness.estimate import median
from benchmarks.harness.instruments import Meter, warm_page_cache
from benchmarks.harness.trial import REPOSITORY
from benchmarks.presentation import Figure, Presentation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.backfill_fillers import Filler
    from benchmarks.backfill_functions import Features

NUMBERS, MEDIA, FRAGMENTS_100, CPU = "numbers", "media", "100 fragments", "slow function"
FRAGMENTS_10, ROWS, ONE_PICTURE, TWO_PICTURES, ONE_ROW = (
    "10 fragments",
    "row function",
    "one column of pictures",
    "two columns of pictures",
    "one row",
)
_OWN = (NUMBERS, MEDIA, FRAGMENTS_100, FRAGMENTS_10, ROWS, ONE_PICTURE, TWO_PICTURES, ONE_ROW)
_CASES = {"ours": _OWN, "by_hand": _OWN, "one_worker": (CPU,), "two_workers": (CPU, ONE_ROW)}
_IMMUTABLE = frozenset({".lance", ".blob"})
_TABLE = Path("lake") / "t.lance"


@dataclass(frozen=True)
class Backfill:
    """Fill columns and compare bytes and time; its fields are the command's options."""

    name: ClassVar[str] = "backfill"
    arms: ClassVar[dict[str, Arm]] = {name: filler.arm for name, filler in FILLERS.items()}

    num_rows: int = field(default=10_000_000, metadata={"help": "rows of the table of numbers"})
    num_media: int = field(default=100_000, metadata={"help": "rows of the table with media"})
    media_nbytes: int = field(default=20_000, metadata={"help": "median size of the media"})
    num_byte_rows: int = field(default=100_000, metadata={"help": "rows whose bytes are counted"})
    num_calls: int = field(default=1_000_000, metadata={"help": "rows of the row function"})
    num_pictures: int = field(default=1_000, metadata={"help": "rows of the table with pictures"})
    num_slow: int = field(default=6_000, metadata={"help": "rows of the slow function, about a millisecond each"})
    data: str = field(default="benchmarks/data", metadata={"help": "where tables are built, in the repository"})

    def cases(self, arm: str) -> Sequence[str]:
        return _CASES[arm]

    def prepare(self, arm: str, case: str) -> None:  # noqa: ARG002  # all arms fill the same tables
        table, _ = self._work[case]
        for each in (table, table.one_row):
            self._built(each)

    def measure(self, arm: str, case: str, seed: int) -> Outcome:  # noqa: ARG002  # nothing here is drawn
        table, features = self._work[case]
        if case in (ONE_ROW, CPU):  # the first fill of the process, as a user meets it; workers start cold anyway
            return self._fill(FILLERS[arm], table, features)
        self._fill(FILLERS[arm], table.one_row, features)  # loads libraries and starts thread pools
        fixed = self._fill(FILLERS[arm], table.one_row, features).metrics["wall_s"]
        done = self._fill(FILLERS[arm], table, features)
        return Outcome({**done.metrics, "row_s": (done.metrics["wall_s"] - fixed) / table.num_rows}, done.digests)

    @cached_property
    def _work(self) -> dict[str, tuple[TableOf, Features]]:
        pictures = TableOf("pictures", self.num_pictures)
        return {
            NUMBERS: (TableOf("numbers", self.num_rows), functions.HALF),
            MEDIA: (TableOf("media", self.num_media, nbytes=self.media_nbytes), functions.SIZE),
            FRAGMENTS_100: (TableOf("numbers", self.num_byte_rows, 100), functions.HALF),
            CPU: (TableOf("numbers", self.num_slow), functions.SPIN),
            FRAGMENTS_10: (TableOf("numbers", self.num_byte_rows), functions.HALF),
            ROWS: (TableOf("numbers", self.num_calls), functions.SQUARE),
            ONE_PICTURE: (pictures, functions.ONE_OF_PICTURES),
            TWO_PICTURES: (pictures, functions.TWO_OF_PICTURES),
            ONE_ROW: (TableOf("numbers", 1, 1), functions.HALF),
        }

    def _fill(self, kind: type[Filler], table: TableOf, features: Features) -> Outcome:
        copy = working_copy(self._built(table), self._folder / "copies" / f"{table.name}-{os.getpid()}", _IMMUTABLE)
        try:
            warm_page_cache(copy)
            return fill_on(kind(copy), copy, table, features)
        finally:
            shutil.rmtree(copy)

    def _built(self, table: TableOf) -> Path:
        sources = [Path(backfill_tables.__file__), Path(media.__file__)]
        return built_once(self._folder / table.name, table.build, sources)

    @property
    def _folder(self) -> Path:
        return REPOSITORY / self.data / self.name


def fill_on(filler: Filler, folder: Path, table: TableOf, features: Features) -> Outcome:
    """Declare the columns, fill them, count what it took, and hash their values afterwards.

    The time is that of the fill alone, flushed to the disk; bytes count the declaration too.
    """
    empty = listing(folder)
    filler.declare(features)
    before = listing(folder)
    with Meter() as meter:
        start_s = time.perf_counter()
        filler.fill(features)
        call_s = time.perf_counter() - start_s
        make_durable(folder, before)
    usage, after = meter.usage, listing(folder)
    column_nbytes = table.num_rows * sum(each.type.bit_width // 8 for each in features.schema)
    metrics = {
        "nbytes_added_per_column_nbyte": (total_nbytes(after) - total_nbytes(empty)) / column_nbytes,
        "written_nbytes_per_column_nbyte": usage.written_nbytes / column_nbytes,
        "num_fill_commits": sum(path.suffix == ".manifest" for path in after.keys() - before.keys()),
        "writes": usage.writes,
        "read_nbytes": usage.read_nbytes,
        "reads": usage.reads,
        "wall_s": usage.wall_s,
        "call_s": call_s,
        "cpu_s": usage.cpu_s,
    }
    return Outcome(metrics, [digest(folder, features)])


def digest(folder: Path, features: Features) -> str:
    """Hash the new columns in the order of the table."""
    import lance

    found = hashlib.sha256()
    for batch in lance.dataset(str(folder / _TABLE)).to_batches(columns=features.schema.names):
        for column in batch.columns:
            found.update(column.to_numpy(zero_copy_only=False).tobytes())
    return found.hexdigest()


def goals(results: Results) -> list[Goal]:
    """State what the benchmark promises of us, for the arms that were run."""
    found = []
    if "ours" in results.arms:
        kept = "nbytes_added_per_column_nbyte"
        shared = results.ratio("wall_s", ("ours", TWO_PICTURES), ("ours", ONE_PICTURE))
        found += [
            Goal("bytes added ÷ column, 10 fragments", results.median(kept, "ours", FRAGMENTS_10), at_most=1.015),
            Goal("bytes added ÷ column, 100 fragments", results.median(kept, "ours", FRAGMENTS_100), at_most=1.18),
            Goal("commits of a fill", results.median("num_fill_commits", "ours", NUMBERS), at_most=3),
            Goal("seconds for one row, in this process", results.median("wall_s", "ours", ONE_ROW), at_most=1),
            Goal("time of two columns of pictures ÷ one", shared, at_most=1.2),
        ]
    if "two_workers" in results.arms:
        found.append(
            Goal("seconds for one row, with workers", results.median("wall_s", "two_workers", ONE_ROW), at_most=3)
        )
    if {"one_worker", "two_workers"} <= results.arms.keys():
        gain = results.ratio("wall_s", ("one_worker", CPU), ("two_workers", CPU))
        found.append(Goal("time of one worker ÷ two, slow function", gain, at_least=1.7))
    if {"ours", "by_hand"} <= results.arms.keys():
        for case in (NUMBERS, MEDIA):
            ratio = results.ratio("row_s", ("ours", case), ("by_hand", case))
            found.append(Goal(f"time of a row ÷ by hand, {case}", ratio, at_most=1.3))
        ours, plain = (results.by_round("row_s", arm, ROWS) for arm in ("ours", "by_hand"))
        more = median([(mine - theirs) * 1e6 for mine, theirs in zip(ours, plain, strict=True)])
        found.append(Goal("microseconds a call of a row function, more than by hand", more, at_most=3))
    return found


def describe(results: Results) -> str:
    settings = results.settings
    return (
        f"One column computed by a trivial batch function of {settings['num_rows']:,} numbers and of {settings['num_media']:,} media of "
        f"{settings['media_nbytes'] / 1e3:g} KB, in 10 files; the bytes of one of {settings['num_byte_rows']:,} numbers in 10 and 100 files. "
        "Tables are open and warm; times are those of the fill, flushed to the disk; values are compared across arms afterwards. "
        "By hand means: scan, compute and write a file for each fragment, then one commit; no stamps, nothing kept of a job that stops."
    )


PRESENTATION = Presentation(
    title="Backfill",
    describe=describe,
    goals=goals,
    figures=(
        Figure("nbytes_added_per_column_nbyte", "bytes kept ÷ column"),
        Figure("written_nbytes_per_column_nbyte", "bytes written ÷ column"),
        Figure("wall_s", "ms", 1e3),
        Figure("cpu_s", "CPU ms", 1e3),
    ),
    panels=(Figure("nbytes_added_per_column_nbyte", "bytes kept ÷ column"), Figure("wall_s", "ms", 1e3)),
    table_cases=(NUMBERS, MEDIA, FRAGMENTS_100, CPU),
    remark="What was written and is not kept are checkpoints, removed when their values are committed.",
)

if __name__ == "__main__":
    main(Backfill, goals)
