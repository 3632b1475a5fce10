"""Point queries: a batch of images of about 20 KB, by row id and by key, from warm handles and a hot page cache.

Run ``python -m benchmarks.point_query``; see ``--help``.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.building import built_once, sources_of
from benchmarks.command import main
from benchmarks.harness import Arm, Goal, Outcome, Results
from benchmarks.harness.instruments import Meter, Usage, warm_page_cache
from benchmarks.harness.trial import REPOSITORY
from benchmarks.media import Ints, MediaRows
from benchmarks.point_readers import READERS, Reader
from benchmarks.presentation import Figure, Presentation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SORTED, SHUFFLED, REPEATED = "row ids sorted", "row ids shuffled", "row ids shuffled, 20 % repeated"
KEYS = "keys shuffled"
_REPEATED_FRACTION = 0.2
_SIZE_SPREAD = 0.866  # log-normal with its 99th percentile at 7.5 × the median: 20 KB and 150 KB
_NUM_WARM_UPS = 5
_MIN_CALLS = 3


@dataclass(frozen=True)
class PointQuery:
    """Fetch batches of images and compare bytes read, calls made and time; its fields are the command's options."""

    name: ClassVar[str] = "point_query"
    arms: ClassVar[dict[str, Arm]] = {name: reader.arm for name, reader in READERS.items()}

    num_rows: int = field(default=10_000, metadata={"help": "rows in each layout; 10,000 are about 0.3 GB"})
    median_nbytes: int = field(default=20_000, metadata={"help": "median size of an image"})
    batch_size: int = field(default=64, metadata={"help": "images a call"})
    num_calls: int = field(default=100, metadata={"help": "timed calls of a trial, at most"})
    budget_s: float = field(default=2.0, metadata={"help": "seconds of calls of a trial, so that slow arms make fewer"})
    data: str = field(default="benchmarks/data", metadata={"help": "where layouts are built, in the repository"})

    def cases(self, arm: str) -> Sequence[str]:
        return (KEYS,) if READERS[arm].selects == "key" else (SORTED, SHUFFLED, REPEATED)

    def prepare(self, arm: str, case: str) -> None:  # noqa: ARG002  # every case reads the same layout
        reader, rows = READERS[arm], self._rows()
        sources = sources_of(reader, reader.arm)
        built_once(self._folder(reader, rows), lambda folder: reader.build(folder, rows), sources)

    def measure(self, arm: str, case: str, seed: int) -> Outcome:
        rows = self._rows()
        folder = self._folder(READERS[arm], rows)
        warm_page_cache(folder)
        reader = READERS[arm](folder, rows)
        wanted = list(batches(rows.num_rows, case, self.batch_size, _NUM_WARM_UPS + self.num_calls, seed))
        requests = [reader.request(positions) for positions in wanted]
        for request in requests[:_NUM_WARM_UPS]:
            reader.read(request)
        called = call(reader, requests[_NUM_WARM_UPS:], self.budget_s)
        done = slice(_NUM_WARM_UPS, _NUM_WARM_UPS + len(called.latencies_s))
        digests = [digest(reader.payloads(reader.read(request))) for request in requests[done]]
        payload_nbytes = sum(int(rows.sizes[positions].sum()) for positions in wanted[done])
        return Outcome(called.metrics(self.batch_size, payload_nbytes), digests)

    def _rows(self) -> MediaRows:
        return MediaRows(self.num_rows, self.median_nbytes, _SIZE_SPREAD)

    def _folder(self, reader: type[Reader], rows: MediaRows) -> Path:
        return REPOSITORY / self.data / self.name / rows.name / reader.layout


def batches(num_rows: int, case: str, batch_size: int, num_batches: int, seed: int) -> Iterator[Ints]:
    """Yield the positions of each call, shape ``(batch_size,)``; the same for every arm of a round."""
    rng = np.random.default_rng(seed)
    for _ in range(num_batches):
        positions = rng.choice(num_rows, batch_size, replace=False)
        if case == SORTED:
            positions.sort()
        elif case == REPEATED:
            num_repeats = int(batch_size * _REPEATED_FRACTION)
            positions[:num_repeats] = rng.choice(positions[num_repeats:], num_repeats)
            rng.shuffle(positions)
        yield positions


@dataclass(frozen=True)
class Called:
    """What a run of calls took: of each call its seconds, of all together what was counted."""

    latencies_s: list[float]
    usage: Usage
    lance: Any = None

    def metrics(self, batch_size: int, payload_nbytes: int) -> dict[str, float]:
        """Return the figures of one call, and of one image where that tells more."""
        num_calls = len(self.latencies_s)
        num_images = num_calls * batch_size
        found = {
            "reads_per_image": self.usage.reads / num_images,
            "read_nbytes_per_payload_nbyte": self.usage.read_nbytes / payload_nbytes,
            "page_faults_per_image": (self.usage.minor_faults + self.usage.major_faults) / num_images,
            "payload_nbytes": payload_nbytes / num_calls,
            "wall_s": sum(self.latencies_s) / num_calls,
            "cpu_s": self.usage.cpu_s / num_calls,
            "p50_s": float(np.percentile(self.latencies_s, 50)),
            "p99_s": float(np.percentile(self.latencies_s, 99)),
            "num_calls": num_calls,
        }
        if self.lance is not None:
            found["lance_reads_per_image"] = self.lance.read_iops / num_images
            found["lance_read_nbytes_per_payload_nbyte"] = self.lance.read_bytes / payload_nbytes
        return found


def call(reader: Reader, requests: Sequence[Any], budget_s: float) -> Called:
    """Time each call, the freeing of what it delivered included, until the requests or the budget run out."""
    dataset = getattr(reader, "dataset", None)  # Lance's own counters, where the arm reads through Lance
    if dataset is not None:
        dataset.io_stats_incremental()
    latencies_s: list[float] = []
    spent_s = 0.0
    with Meter() as meter:
        for request in requests:
            start_s = time.perf_counter()
            reader.read(request)
            latencies_s.append(time.perf_counter() - start_s)
            spent_s += latencies_s[-1]
            if spent_s > budget_s and len(latencies_s) >= _MIN_CALLS:
                break
    return Called(latencies_s, meter.usage, None if dataset is None else dataset.io_stats_incremental())


def digest(payloads: Iterable[bytes | memoryview]) -> str:
    """Hash a batch's images with their lengths, in order."""
    found = hashlib.sha256()
    for payload in payloads:
        found.update(len(payload).to_bytes(8, "little"))
        found.update(payload)
    return found.hexdigest()


def goals(results: Results) -> list[Goal]:
    """State what the benchmark promises of us, and the distance to the bound, for the arms that were run."""
    found: list[Goal] = []
    for case in results.cases:
        ours, bound = ("ours_by_key", "flat_file_by_key") if case == KEYS else ("ours", "flat_file")
        if not results.has(ours, case):
            continue
        if case == SHUFFLED:
            read = results.median("read_nbytes_per_payload_nbyte", ours, case)
            found.append(Goal(f"{case}: bytes read ÷ payload", read, at_most=1.02))
        if plain := fastest(results, "plain", case):
            ratio = results.ratio("wall_s", (ours, case), (plain, case))
            found.append(Goal(f"{case}: time ÷ {results.arms[plain].title}, the best plain call", ratio, at_most=1.0))
        if results.has(bound, case):
            ratio = results.ratio("wall_s", (ours, case), (bound, case))
            found.append(Goal(f"{case}: time ÷ the bound, {results.arms[bound].title}", ratio))
    return found


def fastest(results: Results, role: str, case: str) -> str | None:
    """Return the arm of a role with the least median time on a case, None if none was run."""
    arms = [name for name, arm in results.arms.items() if arm.role == role and results.has(name, case)]
    return min(arms, key=lambda name: results.median("wall_s", name, case).value, default=None)


def describe(results: Results) -> str:
    settings = results.settings
    return (
        f"{settings['batch_size']} images a call out of {settings['num_rows']:,} rows, median {settings['median_nbytes'] / 1e3:g} KB "
        "(log-normal, incompressible). Handles are open and warm and the page cache is hot; every arm leaves each image in its own memory "
        "in the order asked for, and all arms' bytes are compared."
    )


PRESENTATION = Presentation(
    title="Point queries",
    describe=describe,
    goals=goals,
    figures=(
        Figure("reads_per_image", "reads per image"),
        Figure("read_nbytes_per_payload_nbyte", "bytes read ÷ payload"),
        Figure("wall_s", "ms per call", 1e3),
        Figure("cpu_s", "CPU ms", 1e3),
    ),
    panels=(Figure("read_nbytes_per_payload_nbyte", "bytes read ÷ payload"), Figure("wall_s", "ms per call", 1e3)),
    table_cases=(SHUFFLED, KEYS),
    remark="Reads are system calls of the process; SQLite reads through a memory map, which they do not show.",
)

if __name__ == "__main__":
    main(PointQuery, goals)
