"""The order trials run in (pure), and the loop that runs them."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from benchmarks.harness import environment
from benchmarks.harness.results import Record, Results
from benchmarks.harness.trial import REPOSITORY, Benchmark, Launch, Trial, in_fresh_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


# By round and case: the arm that got furthest, and its digests.
Delivered = dict[tuple[int, str], tuple[str, "Sequence[str]"]]


class DisagreementError(AssertionError):
    """Two arms were asked the same and delivered different results."""


def schedule(cases: dict[str, list[str]], num_rounds: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Yield (round, case, arm): arms of one case side by side, both orders new and seeded in each round.

    Parameters
    ----------
    cases
        The arms of each case.
    num_rounds
        How often every arm runs every case.
    seed
        The same seed gives the same order.
    """
    for number in range(num_rounds):
        order = random.Random(f"{seed}/{number}")
        for case in order.sample(sorted(cases), len(cases)):
            for arm in order.sample(cases[case], len(cases[case])):
                yield number, case, arm


def run(
    benchmark: Benchmark,
    *,
    num_rounds: int = 11,
    seed: int = 0,
    arms: Sequence[str] | None = None,
    launch: Launch = in_fresh_process,
    tell: Callable[[str], None] = print,
) -> Results:
    """Prepare the data, run every round, check that the arms agree, and return all records.

    Parameters
    ----------
    benchmark
        What to run.
    num_rounds
        Trials of each arm and case.
    seed
        Of the order and of the requests.
    arms
        Names of the arms to run; None runs all.
    launch
        How a trial becomes an outcome: a fresh process, or this one for debugging.
    tell
        Called with a line of text now and then.

    Raises
    ------
    DisagreementError
        Two arms delivered different results.
    TrialError
        A trial failed.
    """
    chosen = _chosen(benchmark, arms)
    cases = _arms_by_case(benchmark, chosen)
    tell(f"{benchmark.name}: {environment.PINNED}")
    for case, names in cases.items():
        for arm in names:
            launch(Trial.of(benchmark, "prepare", arm, case))
    before = environment.load_average()
    records: list[Record] = []
    delivered: Delivered = {}
    for number, case, arm in schedule(cases, num_rounds, seed):
        outcome = launch(Trial.of(benchmark, "measure", arm, case, seed=seed * 1_000_003 + number))
        compare(delivered, (number, case), arm, outcome.digests)
        load = environment.load_average()[0]
        records.append(Record(number, len(records), arm, case, outcome.metrics, outcome.digests[0], load))
        tell(f"round {number + 1}/{num_rounds}  {case:<32} {arm:<24} {outcome.metrics['wall_s'] * 1e3:10.3f} ms")
    return Results(
        benchmark=benchmark.name,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=environment.command_line(),
        seed=seed,
        num_rounds=num_rounds,
        settings=asdict(benchmark),  # type: ignore[call-overload]  # a Benchmark is a dataclass, which a Protocol cannot say
        arms={name: benchmark.arms[name] for name in chosen},
        cases=list(cases),
        host=environment.host(REPOSITORY),
        versions=environment.versions(),
        environment=environment.PINNED,
        load_average={"before": before, "after": environment.load_average()},
        records=records,
    )


def compare(delivered: Delivered, question: tuple[int, str], arm: str, digests: Sequence[str]) -> None:
    """Raise unless `arm` delivered what another did, as far as both of them got; remember the one that got furthest."""
    other, known = delivered.get(question, (arm, digests))
    if not digests or any(mine != theirs for mine, theirs in zip(digests, known, strict=False)):
        number, case = question
        raise DisagreementError(f"round {number}, case {case!r}: {arm} and {other} delivered different results")
    if len(digests) >= len(known):
        delivered[question] = (arm, digests)


def _chosen(benchmark: Benchmark, arms: Sequence[str] | None) -> list[str]:
    if arms is None:
        return list(benchmark.arms)
    if unknown := [name for name in arms if name not in benchmark.arms]:
        raise SystemExit(f"no arm {', '.join(unknown)}; {benchmark.name} has {', '.join(benchmark.arms)}")
    return [name for name in benchmark.arms if name in arms]


def _arms_by_case(benchmark: Benchmark, arms: Sequence[str]) -> dict[str, list[str]]:
    cases: dict[str, list[str]] = defaultdict(list)
    for arm in arms:
        for case in benchmark.cases(arm):
            cases[case].append(arm)
    return dict(cases)
