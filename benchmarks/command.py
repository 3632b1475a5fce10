"""The command line every benchmark has: its settings as options, rounds, results as a JSON file."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import run
from benchmarks.harness.trial import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Benchmark, Goal, Results

RESULTS = REPOSITORY / "benchmarks" / "results"
_NUM_ROUNDS = 11


def main(kind: type[Any], goals: Callable[[Results], Sequence[Goal]], arguments: Sequence[str] | None = None) -> None:
    """Run a benchmark as the command line says, save its results, print what was reached.

    Parameters
    ----------
    kind
        The benchmark: a dataclass whose fields carry a ``help`` text.
    goals
        Makes the promises of a finished run.
    arguments
        Command-line words; None takes the process's own.
    """
    options = _parser(kind).parse_args(arguments)
    settings = {field.name: getattr(options, field.name) for field in fields(kind)}
    benchmark: Benchmark = kind(**settings)
    results = run(benchmark, num_rounds=options.rounds, seed=options.seed, arms=options.arms)
    path = options.results / f"{benchmark.name}.json"
    reached = goals(results)
    results.save(path, reached)
    for goal in reached:
        print(goal)
    print(f"saved {path}")


def _parser(kind: type[Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{kind.name}", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=_NUM_ROUNDS, help="trials of each arm and case; 11 or more to publish"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order and the requests")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help=f"some of: {', '.join(kind.arms)}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder the JSON goes to")
    for field in fields(kind):
        parser.add_argument(
            _flag(field), dest=field.name, type=type(field.default), default=field.default, help=field.metadata["help"]
        )
    return parser


def _flag(field: Field[Any]) -> str:
    return "--" + field.name.removeprefix("num_").replace("_", "-")
