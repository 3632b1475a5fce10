"""SQL: TPC-H, queries over images, the fixed part of a query, and the bytes that are read.

Run ``python -m benchmarks.sql``; see ``--help``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmarks.building import built_once, sources_of
from benchmarks.command import main
from benchmarks.harness import Arm, Goal, Outcome, Results
from benchmarks.harness.environment import NUM_THREADS
from benchmarks.harness.estimate import median
from benchmarks.harness.instruments import Meter, warm_page_cache
from benchmarks.harness.trial import REPOSITORY
from benchmarks.presentation import Figure, Presentation
from benchmarks.sql_engines.duckdb import LanceDataset, Native, Parquet, ParquetSmallGroups
from benchmarks.sql_engines.engine import Answered, answer
from benchmarks.sql_engines.extension import Extension, answer_elsewhere, environment
from benchmarks.sql_engines.ours import Ours, OursUnkept
from benchmarks.sql_statements import BYTES, EMPTY, TOP_IMAGES, TPCH, Statement, lookup, media_statements
from benchmarks.sql_tables import MediaTables, TpchTables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.sql_tables import Tables

TPC_H, IMAGES, TOP, NOTHING, COUNTED = (
    "TPC-H, 22 queries",
    "12 queries over images",
    "top 10 with image",
    "empty query",
    "bytes",
)
ENGINES = {
    "ours": Ours,
    "ours_unkept": OursUnkept,
    "parquet": Parquet,
    "parquet_small_groups": ParquetSmallGroups,
    "native": Native,
    "lance_dataset": LanceDataset,
    "extension": Extension,
}
_ARMS = {
    TPC_H: ("ours", "ours_unkept", "parquet", "native", "lance_dataset", "extension"),
    IMAGES: ("ours", "ours_unkept", "parquet_small_groups"),
    TOP: ("ours", "ours_unkept", "parquet", "parquet_small_groups", "lance_dataset", "extension"),
    NOTHING: ("ours", "native"),
    COUNTED: ("ours_unkept", "parquet_small_groups"),
}
_BUILDERS = {each.layout: each for each in (Ours, Native, Parquet, ParquetSmallGroups)}
_NUM_KEYS = 100


@dataclass(frozen=True)
class Sql:
    """Ask the same of every engine and compare answers, time and bytes; its fields are the command's options."""

    name: ClassVar[str] = "sql"
    arms: ClassVar[dict[str, Arm]] = {name: engine.arm for name, engine in ENGINES.items()}

    scale: float = field(default=0.2, metadata={"help": "of TPC-H; 1 is about 1 GB of text"})
    num_images: int = field(default=70_000, metadata={"help": "rows of the table of images; 70,000 are about 2 GB"})
    median_nbytes: int = field(default=20_000, metadata={"help": "median size of an image"})
    num_repeats: int = field(default=3, metadata={"help": "timed answers of each statement in a trial, at most"})
    budget_s: float = field(
        default=0.5, metadata={"help": "seconds of a statement's answers, so that slow arms repeat less"}
    )
    num_empty: int = field(default=200, metadata={"help": "answers to each empty query"})
    data: str = field(default="benchmarks/data", metadata={"help": "where tables are built, in the repository"})

    def cases(self, arm: str) -> Sequence[str]:
        return [case for case, arms in _ARMS.items() if arm in arms]

    def prepare(self, arm: str, case: str) -> None:
        tables, builder = self._tables(case), _BUILDERS[ENGINES[arm].layout]

        def build(folder: Path) -> None:
            builder.build(folder, tables.readers(folder / "raw"))

        sources = [*sources_of(builder, builder.arm), REPOSITORY / "benchmarks" / "sql_tables.py"]
        built_once(self._folder(arm, case), build, sources)
        if arm == "extension":
            environment(self._environment)

    def measure(self, arm: str, case: str, seed: int) -> Outcome:
        folder = self._folder(arm, case)
        warm_page_cache(folder)
        statements = self._statements(case, seed)
        num_repeats = {NOTHING: self.num_empty, COUNTED: 1}.get(case, self.num_repeats)
        if arm == "extension":
            answered = answer_elsewhere(environment(self._environment), folder, statements, num_repeats, self.budget_s)
            return outcome(answered, {})
        engine = ENGINES[arm](folder)
        answered = answer(engine.ask, statements, num_repeats, self.budget_s)
        return outcome(answered, self._needed(engine, answered, seed) if case == COUNTED else {})

    def _statements(self, case: str, seed: int) -> list[Statement]:
        keys = self._keys(seed)
        return {
            TPC_H: TPCH,
            IMAGES: media_statements(keys),
            TOP: [TOP_IMAGES],
            NOTHING: EMPTY,
            COUNTED: [*BYTES, lookup(keys[0])],
        }[case]

    def _needed(self, engine: object, answered: Sequence[Answered], seed: int) -> dict[str, float]:
        """Divide the bytes each answer read by those of the columns and images that it is made of."""
        rows = self._media.rows
        scores, sizes = rows.scores, rows.sizes
        needed = {
            "bytes_top": scores.nbytes + int(sizes[np.argsort(scores)[-5:]].sum()),
            "bytes_filter": scores.nbytes + int(sizes[scores < 0.001].sum()),
        }
        if isinstance(engine, Ours):
            key = self._keys(seed)[0]
            engine.get(key)
            with Meter() as meter:
                engine.get(key)
            needed["bytes_lookup"] = meter.usage.read_nbytes
        read = {each.name: each.read_nbytes for each in answered}
        return {f"{name}_per_needed": read[name] / nbytes for name, nbytes in needed.items()}

    def _keys(self, seed: int) -> list[str]:
        drawn = np.random.default_rng(seed).choice(self.num_images, min(_NUM_KEYS, self.num_images), replace=False)
        return [self._media.rows.ids[n] for n in drawn.tolist()]

    @property
    def _media(self) -> MediaTables:
        return MediaTables(self.num_images, self.median_nbytes)

    def _tables(self, case: str) -> Tables:
        return TpchTables(self.scale) if case == TPC_H else self._media

    def _folder(self, arm: str, case: str) -> Path:
        return REPOSITORY / self.data / self.name / self._tables(case).name / ENGINES[arm].layout

    @property
    def _environment(self) -> Path:
        return REPOSITORY / self.data / self.name / "extension"


def outcome(answered: Sequence[Answered], more: dict[str, float]) -> Outcome:
    """Put a trial's answers together: geometric means of seconds, sums of bytes, and each statement's own."""
    metrics = {
        "wall_s": _geometric_mean([each.wall_s for each in answered]),
        "cpu_s": _geometric_mean([each.cpu_s for each in answered]),
        "read_nbytes": sum(each.read_nbytes for each in answered),
        **{f"{each.name}_s": each.wall_s for each in answered},
        **{f"{each.name}_nbytes": each.read_nbytes for each in answered},
    }
    return Outcome({**metrics, **more}, [each.digest for each in answered])


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def goals(results: Results) -> list[Goal]:
    """State what the benchmark promises of us, for the arms that were run."""
    return [*_time_goals(results), *_fixed_part(results), *_byte_goals(results)]


def _time_goals(results: Results) -> list[Goal]:
    limits = {(TPC_H, "ours", "parquet"): 1.0, (TPC_H, "ours_unkept", "parquet"): 1.0}
    found = []
    for case in (TPC_H, IMAGES):
        for arm in ("ours", "ours_unkept"):
            for other in _ARMS[case]:
                if other in ("ours", "ours_unkept") or not (results.has(arm, case) and results.has(other, case)):
                    continue
                ratio = results.ratio("wall_s", (arm, case), (other, case))
                title = f"{case}: {results.arms[arm].title} ÷ {results.arms[other].title}, geometric mean of time"
                found.append(Goal(title, ratio, at_most=limits.get((case, arm, other))))
    for arm in ("ours", "ours_unkept"):
        for other in _ARMS[TOP]:
            if other.startswith("ours") or not (results.has(arm, TOP) and results.has(other, TOP)):
                continue
            ratio = results.ratio("wall_s", (other, TOP), (arm, TOP))
            title = f"{TOP}: times {results.arms[arm].title} is faster than {results.arms[other].title}"
            found.append(Goal(title, ratio, at_least=200 if other == "parquet" else None))
    return found


def _fixed_part(results: Results) -> list[Goal]:
    if not (results.has("ours", NOTHING) and results.has("native", NOTHING)):
        return []
    found = []
    for metric, words in (("constant_s", "SELECT 1"), ("no_rows_s", "no rows of a table")):
        ours, theirs = (results.by_round(metric, arm, NOTHING) for arm in ("ours", "native"))
        beyond = median([(one - other) * 1e3 for one, other in zip(ours, theirs, strict=True)])
        found.append(Goal(f"{NOTHING}, {words}: ms beyond DuckDB's own", beyond, at_most=3.0))
    return found


def _byte_goals(results: Results) -> list[Goal]:
    if not results.has("ours_unkept", COUNTED):
        return []
    limits = {
        "bytes_count_nbytes": ("count(*): bytes, the manifest's among them", None),
        "bytes_top_per_needed": ("top 5 with image: bytes ÷ (sort column + 5 images)", 1.05),
        "bytes_lookup_per_needed": ("image by indexed key: bytes ÷ those of t.get", 1.5),
        "bytes_filter_per_needed": ("0.1 % of the images: bytes ÷ (filter column + their images)", 1.05),
    }
    return [
        Goal(words, results.median(metric, "ours_unkept", COUNTED), at_most=limit)
        for metric, (words, limit) in limits.items()
    ]


def describe(results: Results) -> str:
    settings = results.settings
    return (
        f"TPC-H at scale {settings['scale']:g}, and {settings['num_images']:,} images of median {settings['median_nbytes'] / 1e3:g} KB beside id, "
        f"label and score. Every engine has {NUM_THREADS} threads and an open connection; each statement is asked once to warm up and then up to "
        f"{settings['num_repeats']} times, to an Arrow table. Seconds are geometric means over a case's statements; all answers are compared."
    )


PRESENTATION = Presentation(
    title="SQL",
    describe=describe,
    goals=goals,
    figures=(
        Figure("wall_s", "ms a query", 1e3),
        Figure("cpu_s", "CPU ms", 1e3),
        Figure("read_nbytes", "MB read, all queries", 1e-6),
    ),
    panels=(Figure("wall_s", "ms a query", 1e3), Figure("read_nbytes", "MB read, all queries", 1e-6)),
    table_cases=(TPC_H, IMAGES, TOP, NOTHING, COUNTED),
    remark="Of images DuckDB reads whole row groups; `prepare` writes them once as it does by default and once in its smallest groups.",
)

if __name__ == "__main__":
    main(Sql, goals)
