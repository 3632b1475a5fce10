"""One arm, one case, one round: what it is, and how it is run in a process of its own."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from benchmarks.harness.environment import child_environment

Role = Literal["ours", "bound", "plain", "peer", "footnote"]
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Arm:
    """One way of doing the work, as the tables name it.

    `handle` says what was open and warm before the clock started; `role` is *bound* (the physical limit), *plain* (pylance used
    well), *peer* (another system at its best settings), *footnote* (a peer at its defaults) or *ours*.
    """

    title: str
    role: Role
    handle: str


@dataclass(frozen=True)
class Outcome:
    """What a trial delivered: figures by name, units in the names, and digests of the results in order.

    An arm that ran out of time may have fewer digests than another; the ones both have must be equal.
    """

    metrics: Mapping[str, float]
    digests: Sequence[str]


class Benchmark(Protocol):
    """A frozen dataclass of JSON settings that knows its arms and cases and measures one of each."""

    @property
    def name(self) -> str: ...
    @property
    def arms(self) -> Mapping[str, Arm]: ...
    def cases(self, arm: str) -> Sequence[str]:
        """Return the cases `arm` takes part in."""
        ...

    def prepare(self, arm: str, case: str) -> None:
        """Build the data the trial reads, unless it is there."""
        ...

    def measure(self, arm: str, case: str, seed: int) -> Outcome:
        """Run the arm once; `seed` is the same for all arms of a round."""
        ...


@dataclass(frozen=True)
class Trial:
    """What a child process is told to do; `action` is a method of class `kind` in ``benchmarks.<benchmark>``."""

    benchmark: str
    kind: str
    settings: Mapping[str, Any]
    action: Literal["prepare", "measure"]
    arm: str
    case: str
    seed: int = 0

    @classmethod
    def of(
        cls, benchmark: Benchmark, action: Literal["prepare", "measure"], arm: str, case: str, seed: int = 0
    ) -> Trial:
        """Describe a trial so that another process can rebuild the benchmark from its settings."""
        # By its name, not by its module: that is __main__ for the command.
        return cls(benchmark.name, type(benchmark).__name__, asdict(benchmark), action, arm, case, seed)  # type: ignore[call-overload]  # a Benchmark is a dataclass, which a Protocol cannot say


Launch = Callable[[Trial], Outcome]


class TrialError(RuntimeError):
    """A trial's process failed; the message ends with its standard error."""


def in_this_process(trial: Trial) -> Outcome:
    """Run a trial here: the debugger's way, and the one that needs no second start of Python."""
    kind = getattr(importlib.import_module(f"benchmarks.{trial.benchmark}"), trial.kind)
    benchmark: Benchmark = kind(**trial.settings)
    if trial.action == "prepare":
        benchmark.prepare(trial.arm, trial.case)
        return Outcome({}, [])
    return benchmark.measure(trial.arm, trial.case, trial.seed)


def in_fresh_process(trial: Trial) -> Outcome:
    """Run a trial in a new Python with the pinned environment."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "outcome.json"
        worker = [sys.executable, "-m", "benchmarks.harness.worker", json.dumps(asdict(trial)), str(answer)]
        done = subprocess.run(
            worker, cwd=REPOSITORY, env=child_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise TrialError(f"{trial.action} of arm {trial.arm!r}, case {trial.case!r} failed:\n{done.stderr[-4000:]}")
        return Outcome(**json.loads(answer.read_text()))
