"""Features filled in one pass: inputs are read once, and each feature is planned, kept, staged and committed alone."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from lakehouse.errors import LakehouseError, VersionNotFoundError
from lakehouse.features.computing.asked import Asked
from lakehouse.pins import pinned
from lakehouse.progress import Tracker, track
from lakehouse.snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from typing import TypeAlias

    from lakehouse.features.computing.compute import Compute, Computed
    from lakehouse.features.jobs.filling import Begun, Filling
    from lakehouse.features.jobs.options import Options
    from lakehouse.features.storing.staging import Staged

    Work: TypeAlias = list[tuple[Any, dict[Filling, int]]]

__all__ = ["Job"]

_AHEAD = 1  # fragments being staged while the next one is computed; their values are in memory


@dataclass(frozen=True)
class _Fragment:
    """A fragment whose rows are being computed."""

    begun: dict[str, Begun]
    computed: Iterator[Computed]


class Job:
    """A pass over the rows of some features.

    A feature that fails is given up with what it has staged committed; the others go on.

    Parameters
    ----------
    snapshot
        The newest version.
    fillings
        The features.
    compute
        What computes them.
    options
        What the user asked for.
    """

    def __init__(self, snapshot: Snapshot, fillings: Sequence[Filling], compute: Compute, options: Options) -> None:
        self._snapshot, self._compute, self._options = snapshot, compute, options
        self._fillings = {filling.token: filling for filling in fillings}
        self._staging: deque[tuple[Filling, Begun, Future[Staged]]] = deque()

    def run(self) -> None:
        """Plan, compute and commit until nothing is left to do; what went wrong is in each filling's `error`."""
        try:
            with ExitStack() as pins, ThreadPoolExecutor(1, "lakehouse staging") as stager:
                self._rounds(pins, stager)
        except LakehouseError as error:  # of what they share
            for filling in self._going():
                filling.error = error
        for filling in self._going():
            with self._alone(filling):
                filling.finish()

    def _rounds(self, pins: ExitStack, stager: ThreadPoolExecutor) -> None:
        work = self._planned(pins)
        total = sum(num_rows for _, wanted in work for num_rows in wanted.values())
        names = ", ".join(filling.feature.name for filling in self._fillings.values())
        with track(f"filling {names}", total, enabled=self._options.progress) as tracker:
            while work:
                self._round(work, stager, tracker)
                self._move_on()
                work = self._planned(pins)

    def _going(self) -> list[Filling]:
        return [filling for filling in self._fillings.values() if filling.error is None]

    @contextmanager
    def _alone(self, filling: Filling) -> Iterator[None]:
        """Keep an error to the feature it happened to."""
        try:
            yield
        except LakehouseError as error:
            filling.error = filling.error or error
            self._compute.drop(filling.token)

    def _move_on(self) -> None:
        self._snapshot = open_snapshot(self._snapshot.lake, self._snapshot.name)
        for filling in self._going():
            with self._alone(filling):
                filling.move_to(self._snapshot)

    def _planned(self, pins: ExitStack) -> Work:
        """Plan at a version whose fragments can all be filled, and which nobody cleans up."""
        while True:
            wanted: dict[int, tuple[Any, dict[Filling, int]]] = {}
            is_covered = True
            for filling in self._going():
                with self._alone(filling):
                    work = filling.plan()
                    is_covered &= not filling.cover(work)
                    for fragment, num_rows in work:
                        wanted.setdefault(fragment.fragment_id, (fragment, {}))[1][filling] = num_rows
            if not wanted:
                return []
            try:
                if is_covered:
                    pins.enter_context(pinned(self._snapshot))
                    return [wanted[number] for number in sorted(wanted)]
            except VersionNotFoundError:  # cleaned up since it was opened
                pass
            self._move_on()

    def _round(self, work: Work, stager: ThreadPoolExecutor, tracker: Tracker) -> None:
        """Compute, stage and commit what was planned."""
        try:
            for fragment in self._computed(work, tracker):
                for token, begun in fragment.begun.items():
                    filling = self._fillings[token]
                    if filling.error is None:
                        self._staging.append((filling, begun, stager.submit(filling.stage, begun)))
                self._collect(_AHEAD * len(self._fillings))
                for filling in self._going():
                    if filling.is_due:
                        with self._alone(filling):
                            filling.end_group()
        finally:  # Ctrl-C and failed features too: what is staged is committed
            self._collect(0)
            for filling in self._fillings.values():
                with self._alone(filling):
                    filling.end_round()

    def _collect(self, most: int) -> None:
        """Take in the files that are staged, until no more than so many are under way."""
        while self._staging and (len(self._staging) > most or self._staging[0][2].done()):
            filling, begun, future = self._staging.popleft()
            with self._alone(filling):
                filling.staged(future.result(), begun)

    def _computed(self, work: Work, tracker: Tracker) -> Iterator[_Fragment]:
        """Yield fragments that are computed, with as many begun as keep the workers busy."""
        begun: deque[_Fragment] = deque()
        for fragment, wanted in work:
            begun.append(self._begin(fragment, wanted, tracker))
            if not self._compute.hungry:
                yield self._finished(begun.popleft(), tracker)
        while begun:
            yield self._finished(begun.popleft(), tracker)

    def _begin(self, fragment: Any, wanted: dict[Filling, int], tracker: Tracker) -> _Fragment:
        """Find what is computed already of each feature, and have the rest computed for all of them."""
        begun = {}
        for filling, num_rows in wanted.items():
            if filling.error is None:
                with self._alone(filling):
                    begun[filling.token] = filling.begin(fragment, num_rows, tracker)
        asked = Asked.of({token: each.missing for token, each in begun.items()})
        computed = self._compute.run(self._snapshot, fragment, asked) if asked.num_rows else iter(())
        return _Fragment(begun, computed)

    def _finished(self, fragment: _Fragment, tracker: Tracker) -> _Fragment:
        began = perf_counter()
        try:
            for token, part in fragment.computed:
                filling, seconds = self._fillings[token], perf_counter() - began
                if filling.error is None:
                    with self._alone(filling):
                        filling.take(fragment.begun[token], part, seconds, tracker)
                began = perf_counter()
        except BaseException:  # Ctrl-C: what is computed is kept
            for begun in fragment.begun.values():
                begun.keeping.keep()
            raise
        return fragment
