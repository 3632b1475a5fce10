"""A finished run as data: every trial, what it ran on, and the questions one asks of it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.harness.estimate import Estimate, median, median_ratio
from benchmarks.harness.trial import Arm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One measured trial: `position` is its place in the run, from 0, `digest` that of the first thing it delivered."""

    round: int
    position: int
    arm: str
    case: str
    metrics: Mapping[str, float]
    digest: str
    load_average_1min: float


@dataclass(frozen=True)
class Goal:
    """A promise and what was reached; with neither limit the figure is reported, not promised."""

    text: str
    reached: Estimate
    at_most: float | None = None
    at_least: float | None = None

    @property
    def verdict(self) -> Literal["met", "not met", "undecided", "reported"]:
        """Say "met" only where the whole interval is on the right side."""
        if self.at_most is None and self.at_least is None:
            return "reported"
        lowest = self.at_least if self.at_least is not None else -math.inf
        highest = self.at_most if self.at_most is not None else math.inf
        if lowest <= self.reached.low and self.reached.high <= highest:
            return "met"
        return "not met" if self.reached.high < lowest or self.reached.low > highest else "undecided"

    @property
    def promised(self) -> str:
        """The limits in words, empty without any."""
        limits = {"at most": self.at_most, "at least": self.at_least}
        return ", ".join(f"{word} {limit:,g}" for word, limit in limits.items() if limit is not None)

    def __str__(self) -> str:
        promised = f", promised {self.promised}" if self.promised else ""
        return f"{self.text}: {self.reached}{promised} ({self.verdict})"


@dataclass(frozen=True)
class Results:
    """All records of one run, with the machine, versions and environment they hold for."""

    benchmark: str
    taken_at: str
    command: str
    seed: int
    num_rounds: int
    settings: Mapping[str, Any]
    arms: Mapping[str, Arm]
    cases: Sequence[str]
    host: Mapping[str, Any]
    versions: Mapping[str, str]
    environment: Mapping[str, str]
    load_average: Mapping[str, Sequence[float]]
    records: Sequence[Record]

    def has(self, arm: str, case: str) -> bool:
        """Tell whether `arm` was run on `case`."""
        return any((r.arm, r.case) == (arm, case) for r in self.records)

    def by_round(self, metric: str, arm: str, case: str) -> list[float]:
        """Return one figure of an arm per round, in round order."""
        found = [r for r in self.records if (r.arm, r.case) == (arm, case)]
        if not found:
            raise LookupError(f"arm {arm!r} was not run on case {case!r}")
        return [r.metrics[metric] for r in sorted(found, key=lambda r: r.round)]

    def median(self, metric: str, arm: str, case: str) -> Estimate:
        """Estimate one figure of one arm."""
        return median(self.by_round(metric, arm, case))

    def ratio(self, metric: str, above: tuple[str, str], below: tuple[str, str]) -> Estimate:
        """Estimate the ratio of two (arm, case) pairs, paired by round."""
        return median_ratio(self.by_round(metric, *above), self.by_round(metric, *below))

    def summary(self) -> list[dict[str, Any]]:
        """Return the median and interval of every metric, an entry per arm and case."""
        return [
            {
                "case": case,
                "arm": arm,
                **{name: asdict(self.median(name, arm, case)) for name in self._metrics(arm, case)},
            }
            for case in self.cases
            for arm in self.arms
            if self.has(arm, case)
        ]

    def save(self, path: Path, goals: Sequence[Goal]) -> None:
        """Write the results as JSON, with what is derived from them: a summary and the goals' verdicts."""
        path.parent.mkdir(parents=True, exist_ok=True)
        derived = {"summary": self.summary(), "goals": [{**asdict(goal), "verdict": goal.verdict} for goal in goals]}
        path.write_text(json.dumps({**asdict(self), **derived}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote; what is derived is made again when asked for."""
        content = json.loads(path.read_text())
        del content["summary"], content["goals"]
        content["arms"] = {name: Arm(**arm) for name, arm in content["arms"].items()}
        content["records"] = [Record(**record) for record in content["records"]]
        return cls(**content)

    def _metrics(self, arm: str, case: str) -> list[str]:
        return list(next(r.metrics for r in self.records if (r.arm, r.case) == (arm, case)))
