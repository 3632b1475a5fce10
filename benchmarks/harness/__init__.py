"""Measure several ways of doing one thing, so that the figures can be believed on a shared machine.

The nouns, in the order data flows::

    Benchmark ── arms × cases ──► Trial ── a fresh process ──► Outcome ──► Results ──► Estimate
    (what)                        (one arm, one case,          (metrics,   (a JSON     (median of the
                                   one round)                   digests)    file)       per-round ratios)

- An *arm* is one way (ours, plain pylance, a peer, the bound); a *case* is one input shape.
- Each trial is a process of its own with the environment of `environment.PINNED`: no arm pays for another's threads or allocator.
- A round runs every case; within a case the arms follow each other directly, in a seeded random order, so that a
  ratio compares two neighbours in time. The statistic is the median of those ratios with a bootstrap interval.
- Bytes and I/O counts come first: `/proc/self/io` sees every arm alike. CPU time stands beside wall time.
- Every arm reports digests of what it delivered, taken outside the timed section; arms that disagree end the run.
"""

from benchmarks.harness.estimate import Estimate, median_ratio
from benchmarks.harness.results import Goal, Results
from benchmarks.harness.rounds import DisagreementError, run
from benchmarks.harness.trial import Arm, Benchmark, Outcome, Trial, TrialError, in_fresh_process, in_this_process

__all__ = [
    "Arm",
    "Benchmark",
    "DisagreementError",
    "Estimate",
    "Goal",
    "Outcome",
    "Results",
    "Trial",
    "TrialError",
    "in_fresh_process",
    "in_this_process",
    "median_ratio",
    "run",
]
