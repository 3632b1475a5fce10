"""Batches for training: a lake's loader beside plain pylance and the peers, each in an environment of its own.

Run ``python -m benchmarks.loader``; see ``--help``.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmarks import loader_rows
from benchmarks.building import built_once
from benchmarks.command import main
from benchmarks.harness import Arm, Goal, Outcome, Results
from benchmarks.harness.instruments import warm_page_cache
from benchmarks.harness.trial import REPOSITORY
from benchmarks.loader_readers import READERS, Job, Level
from benchmarks.loader_readers.environments import interpreter
from benchmarks.loader_readers.measured import Task
from benchmarks.loader_readers.usage import memory_nbytes
from benchmarks.loader_rows import LoaderRows
from benchmarks.presentation import Figure, Presentation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SMALL, LARGE, TEXT, NARROW = "JPEG of 45 KB", "JPEG of 100 KB", "text", "narrow rows"
UNCOMPRESSED = f"{TEXT}, uncompressed"
MANY = "very long table"
RAW, DECODED, AUGMENTED = "as bytes", "decoded", "decoded and augmented"
_LONG = "long table"  # of narrow rows, in two fragments of the size that compaction gives them
_DELETED = {f"{_LONG}, {number:,} rows of each fragment deleted": number for number in (0, 1, 2_000, 10_000)}
_LONG_ROWS = 2_000_000
_SIZES = {SMALL: (341, 256), LARGE: (500, 375)}
_LEVELS: dict[str, Level] = {RAW: "raw", DECODED: "decode", AUGMENTED: "augment"}
_PREFETCHED_BATCHES = 4  # our default
_MEMORY_NBYTES, _MEMORY_PER_PREFETCHED = 64e6, 1.5
_AT_PAR = 1.01
_BESIDE_UNCOMPRESSED = ("ours", "ours_in_order", "to_batches", "lancedb", "webdataset")  # what promises are about
_SAMPLED_EVERY_S = 0.1  # memory, from outside: a hundredth of a core
_LIMIT_S = 300.0


@dataclass(frozen=True)
class Loading:
    """Load shuffled batches and compare rows a CPU-second, rows a second, memory and bytes read; its fields are the command's options."""

    name: ClassVar[str] = "loader"
    arms: ClassVar[dict[str, Arm]] = {name: reader.arm for name, reader in READERS.items()}

    num_small: int = field(
        default=8_000, metadata={"help": "pictures of 45 KB in each layout; 20,000 are 0.9 GB, ten times over"}
    )
    num_large: int = field(default=4_000, metadata={"help": "pictures of 100 KB in each layout"})
    num_texts: int = field(default=100_000, metadata={"help": "texts of 0.5 to 8 KB in each layout"})
    num_narrow: int = field(default=200_000, metadata={"help": "rows of 16 bytes in each layout"})
    batch_size: int = field(
        default=64, metadata={"help": "pictures a batch; of texts and narrow rows four times as many"}
    )
    num_many: int = field(
        default=100_000_000, metadata={"help": "rows of one byte in a table for the first batch and resuming"}
    )
    buffer_rows: int = field(default=1_000, metadata={"help": "rows in the shuffle buffers of the arms that have one"})
    num_workers: int = field(
        default=2, metadata={"help": "processes that decode, for arms without threads of their own"}
    )
    budget_s: float = field(
        default=2.5, metadata={"help": "seconds of batches of a trial, so that slow arms load fewer"}
    )
    data: str = field(default="benchmarks/data", metadata={"help": "where layouts are built, in the repository"})

    def cases(self, arm: str) -> Sequence[str]:
        reader = READERS[arm]
        if "byte" in reader.kinds:
            return (MANY,)
        # The plot shows the first four. A decoder's share of the time depends little on the size of the pictures.
        small = [f"{SMALL}, {words}" for words, level in _LEVELS.items() if level in reader.levels]
        if "text" not in reader.kinds:
            return small
        uncompressed = [UNCOMPRESSED] if arm in _BESIDE_UNCOMPRESSED else []
        deleted = _DELETED if arm == "ours" else {}
        return [small[0], TEXT, NARROW, *small[1:], f"{LARGE}, {RAW}", *uncompressed, *deleted]

    def prepare(self, arm: str, case: str) -> None:
        reader, rows = READERS[arm], self._rows(case)
        rows.make_pool()
        own = [Path(inspect.getfile(reader.build)), Path(loader_rows.__file__)]  # arms that share a layout inherit it
        sources = own + (sorted((REPOSITORY / "lakehouse").rglob("*.py")) if reader.arm.role == "ours" else [])
        built_once(self._folder(arm, rows), lambda folder: self._run(arm, case, "build", folder, seed=0), sources)

    def measure(self, arm: str, case: str, seed: int) -> Outcome:
        folder = self._folder(arm, self._rows(case))
        warm_page_cache(folder)
        found, peak_nbytes = self._run(arm, case, "measure", folder, seed)
        over = max(peak_nbytes - found["baseline_nbytes"], 1)
        share = over / (_MEMORY_NBYTES + _MEMORY_PER_PREFETCHED * self._prefetched_nbytes(case))
        return Outcome({**found, "memory_nbytes": over, "memory_share": share}, ["each payload is its row's"])

    def _prefetched_nbytes(self, case: str) -> int:
        """Return the bytes of the batches that our loader has under way, and of the one in use, as they are delivered."""
        rows, level = self._rows(case), _level(case)
        row_nbytes = {"raw": rows.nbytes + 8, "decode": 3 * rows.width_px * rows.height_px, "augment": 3 * 224 * 224}[
            level
        ]
        return (_PREFETCHED_BATCHES + 1) * self._job(case, 0).batch_size * row_nbytes

    def _run(self, arm: str, case: str, action: str, folder: Path, seed: int) -> tuple[Mapping[str, float], int]:
        """Run the arm in its own environment, and watch how much memory it takes."""
        rows, job = self._rows(case), self._job(case, seed)
        with tempfile.TemporaryDirectory() as scratch:
            answer, errors, loaded = (Path(scratch) / name for name in ("answer.json", "errors", "loaded"))
            task = Task(action, arm, str(folder), asdict(rows), asdict(job), self.budget_s, str(loaded))
            command = [str(interpreter(READERS[arm].environment)), "-m", "benchmarks.loader_readers.measured"]
            with (
                errors.open("w") as written,
                subprocess.Popen(
                    [*command, json.dumps(asdict(task)), str(answer)], cwd=REPOSITORY, stdout=written, stderr=written
                ) as child,
            ):
                peak_nbytes = _watched(child, loaded)
            if child.returncode != 0:
                raise RuntimeError(f"{arm}, {case}: {errors.read_text()[-3000:]}")
            return json.loads(answer.read_text()), peak_nbytes

    def _job(self, case: str, seed: int) -> Job:
        level = _level(case)
        return Job(
            level=level,
            batch_size=self.batch_size if case.startswith("JPEG") else 4 * self.batch_size,
            seed=seed % (1 << 31),
            num_workers=0 if level == "raw" else self.num_workers,
            buffer_rows=self.buffer_rows,
        )

    def _rows(self, case: str) -> LoaderRows:
        if case == MANY:
            return LoaderRows("byte", self.num_many)
        if case in (TEXT, UNCOMPRESSED):
            return LoaderRows("text", self.num_texts, uncompressed=case == UNCOMPRESSED)
        if case == NARROW:
            return LoaderRows("narrow", self.num_narrow)
        if case in _DELETED:
            return LoaderRows("narrow", _LONG_ROWS, num_deleted=_DELETED[case])
        size = case.partition(",")[0]
        return LoaderRows("image", self.num_small if size == SMALL else self.num_large, *_SIZES[size])

    def _folder(self, arm: str, rows: LoaderRows) -> Path:
        return REPOSITORY / self.data / self.name / rows.name / READERS[arm].layout


def _watched(child: subprocess.Popen[bytes], loaded: Path) -> int:
    """Wait for a process; return the most memory it and its descendants held at once until the file appeared."""
    peak_nbytes, until = 0, time.monotonic() + _LIMIT_S
    while child.poll() is None:
        if not loaded.exists():
            peak_nbytes = max(peak_nbytes, memory_nbytes(child.pid))
        time.sleep(_SAMPLED_EVERY_S)
        if time.monotonic() > until:
            child.kill()
    return peak_nbytes


def _level(case: str) -> Level:
    return _LEVELS.get(case.partition(", ")[2], "raw")


def goals(results: Results) -> list[Goal]:
    """State what the benchmark promises of us, for the arms that were run."""
    found: list[Goal] = []
    for case in (case for case in results.cases if results.has("ours", case) and case not in _DELETED):
        found += _beside_others(results, case, _level(case) == "raw")
        if _level(case) == "raw":
            amplification = results.median("read_nbytes_per_payload_nbyte", "ours", case)
            found += (
                [Goal(f"{case}: bytes read ÷ payload", amplification, at_most=1.05)] if case.startswith("JPEG") else []
            )
        share = results.median("memory_share", "ours", case)
        found.append(
            Goal(f"{case}: memory over the imports ÷ (64 MB + 1.5 × the batches under way)", share, at_most=1.0)
        )
    before, *after = _DELETED
    for case in (case for case in after if results.has("ours", case)):
        cost = results.ratio("cpu_s", ("ours", case), ("ours", before))
        found.append(Goal(f"{case}: CPU time ÷ before", cost, at_most=1.5))
    if results.has("ours_many", MANY):
        rows = f"{results.settings['num_many']:,} rows"
        for metric, words, limit in (
            ("first_batch_s", "seconds to the first batch", 2.0),
            ("resume_s", "seconds to resume", 1.0),
            ("plan_nbytes_per_row", "bytes of plan a row", 0.001),
        ):
            found.append(Goal(f"{rows}: {words}", results.median(metric, "ours_many", MANY), at_most=limit))
    return found


def headlines(results: Results) -> list[Goal]:
    """Choose what rows cost beside the others, and how soon a very long table begins."""
    chosen = (": rows a CPU-second", f"{results.settings['num_many']:,} rows: seconds")
    return [goal for goal in goals(results) if any(words in goal.text for words in chosen)]


def _beside_others(results: Results, case: str, raw: bool) -> list[Goal]:
    found = []

    def compare(other: str, metric: str, words: str, ours: str = "ours", **limit: float) -> None:
        if results.has(other, case) and results.has(ours, case):
            ratio = results.ratio(metric, (ours, case), (other, case))
            titles = (f"{results.arms[arm].title}" for arm in (ours, other))
            found.append(Goal(f"{case}: {words}, {' ÷ '.join(titles)}", ratio, **limit))

    rate = "rows a CPU-second"
    compare("lancedb", "rows_per_cpu_s", rate, at_least=2.0 if raw else 1.0)
    for metric, words in (
        ("wall_s", "time"),
        ("first_batch_s", "time to the first batch"),
        ("memory_nbytes", "memory"),
        ("read_nbytes_per_payload_nbyte", "bytes read"),
    ):
        compare("lancedb", metric, words, at_most=_AT_PAR)
    if raw:
        compare("webdataset", "rows_per_cpu_s", rate, at_least=3.0)
        compare("webdataset", "label_entropy_share", "label entropy", at_least=1.0)
        compare("to_batches", "rows_per_cpu_s", rate, ours="ours_in_order", at_least=0.9)
        compare("ours_in_order", "rows_per_cpu_s", rate, at_least=0.9)
        compare("hf_map", "rows_per_cpu_s", rate)
        compare("litdata", "rows_per_cpu_s", rate)
    else:
        compare("decoding", "cpu_s", "CPU time", at_most=1.1)
    return found


def describe(results: Results) -> str:
    settings = results.settings
    return (
        f"An epoch of {settings['num_small']:,} JPEGs of 45 KB, {settings['num_large']:,} of 100 KB, {settings['num_texts']:,} texts and "
        f"{settings['num_narrow']:,} rows of 16 bytes, or as much of it as {settings['budget_s']:g} s allow, shuffled, hot; sorted by label. "
        f"Shuffle buffers hold {settings['buffer_rows']:,} rows. Every peer in an environment of its own; decoded, those without threads get "
        f"{settings['num_workers']} workers, and all decode by Pillow. Rows a CPU-second count all threads and processes from the opening on; "
        "memory is what they hold of their own over the imports, files in a memory map not counted. Label entropy is that of batches of 256 ÷ "
        "that of a random draw. Lance compresses texts; uncompressed, lancedb's, pylance's and ours are stored as they are."
    )


_RATE = Figure("rows_per_cpu_s", "1,000 rows a CPU-second", 1e-3)
_MEMORY = Figure("memory_nbytes", "memory, MB", 1e-6)
_MIXING = Figure("label_entropy_share", "label entropy")

PRESENTATION = Presentation(
    title="Loading for training",
    describe=describe,
    goals=goals,
    headlines=headlines,
    figures=(
        _RATE,
        Figure("rows_per_s", "1,000 rows/s", 1e-3),
        Figure("first_batch_s", "ms to the first batch", 1e3),
        _MEMORY,
        Figure("read_nbytes_per_payload_nbyte", "bytes read ÷ payload"),
        _MIXING,
        Figure("serial_correlation", "serial correlation"),
    ),
    panels=(_RATE, _MEMORY, _MIXING),
    table_cases=(f"{SMALL}, {RAW}", f"{SMALL}, {AUGMENTED}", NARROW),
    remark="HF datasets and LitData read through memory maps, which is no system call and shows as no bytes read.",
)

if __name__ == "__main__":
    main(Loading, goals)
