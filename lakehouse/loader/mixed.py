"""What a mix reads: an endless line of samples, each of one source, cut into batches on one of several ranks."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from lakehouse.errors import DataError
from lakehouse.loader.batches.epoch import Epoch
from lakehouse.loader.forms.arrays import arrays_of_this_installation
from lakehouse.loader.order.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from lakehouse.loader.forms.arrays import Arrays
    from lakehouse.loader.forms.columns import Column
    from lakehouse.loader.options import LoaderOptions
    from lakehouse.loader.order.schedule import Schedule
    from lakehouse.loader.source import Source
    from lakehouse.loader.stats import Meter

__all__ = ["MixedSource", "Until"]

Until: TypeAlias = "Literal['first', 'longest'] | int"


@dataclass(frozen=True, eq=False)
class MixedSource:
    """What a mix reads; to `Loader` it is a source like any other.

    Parameters
    ----------
    sources
        What is mixed.
    schedule
        Which of them gives the sample at a position.
    until
        See `mix`.
    global_batch_size
        Samples of a batch over all ranks.
    """

    sources: tuple[Source, ...]
    schedule: Schedule
    until: Until
    global_batch_size: int

    @property
    def options(self) -> LoaderOptions:
        """What all of them have in common."""
        return self.sources[0].options

    @property
    def columns(self) -> Sequence[Column]:
        """What a batch has."""
        return self.sources[0].columns

    @property
    def table(self) -> str:
        """What is mixed, for people."""
        return " + ".join(source.table for source in self.sources)

    @cached_property
    def num_batches(self) -> int:
        """Global batches of an epoch, the same in each."""
        if isinstance(self.until, int):
            return self.until
        sizes = np.array([source.num_positions for source in self.sources])
        size = self.global_batch_size
        if self.until == "longest":
            return self.schedule.first(lambda counts: bool((counts >= sizes).all()), size) // size
        return self.schedule.first(lambda counts: bool((counts > sizes).any()), size) // size - 1

    def plan(self, epoch: int, world_size: int) -> Plan:  # noqa: ARG002 - as of a source
        """Return the positions of an epoch, which go on where the one before ended."""
        size = self.global_batch_size
        return Plan(self.num_batches * size, size, seed=self.schedule.seed, epoch=epoch, shuffle="none")

    def part(self, plan: Plan, rank: int, world_size: int, arrays: Arrays, meter: Meter) -> _MixedEpoch:
        """Return the batches of one rank in one epoch."""
        return _MixedEpoch(self, plan, rank, world_size, arrays, meter)

    def ordered(self, world_size: int) -> MixedSource:  # noqa: ARG002 - as of a source
        """Return it as it is: each source has its order."""
        return self

    def pin(self) -> None:
        """Keep all versions from clean-up as long as this object lives."""
        for source in self.sources:
            source.pin()

    def sources_at(self, plan: Plan, step: int, rank: int, world_size: int) -> tuple[npt.NDArray[np.int32], Any]:
        """Give the source of each sample that a rank has at a step, and how many of its samples come before it."""
        return self.schedule.at(plan.epoch * plan.num_rows + plan.positions(step, rank, world_size))


@dataclass(frozen=True)
class _Share(Plan):
    """An epoch of one source as the steps of a mix cut it."""

    mixed: MixedSource | None = None
    whole: Plan | None = None
    number: int = 0

    def positions(self, step: int, rank: int = 0, world_size: int = 1) -> npt.NDArray[np.int64]:
        """Give the positions in this epoch that a rank takes at a step of the mix."""
        assert self.mixed is not None
        assert self.whole is not None
        source, places = self.mixed.sources_at(self.whole, step, rank, world_size)
        own: npt.NDArray[np.int64] = places[source == self.number] - self.epoch * self.num_rows
        return own[(own >= 0) & (own < self.num_rows)]

    def groups(self, steps: Iterable[int]) -> Iterator[list[int]]:
        """Put steps together that are made of the same blocks, which may reach into the next ones."""
        if self.shuffle != "block":
            return super().groups(steps)
        order, size = self.block_order, self.global_batch_size

        def generation(step: int) -> int:
            first = int(self.positions(step)[0]) if len(self.positions(step)) else 0
            return min(first // (order.generation * size), order.num_generations)

        return (list(together) for _, together in groupby(steps, generation))


class _MixedEpoch:
    """The batches of one rank in one epoch of a mix."""

    def __init__(
        self, mixed: MixedSource, plan: Plan, rank: int, world_size: int, arrays: Arrays, meter: Meter
    ) -> None:
        self._mixed = mixed
        self._plan = plan
        self._part = rank, world_size
        self._arrays, self._meter = arrays, meter

    def batches(self, steps: Sequence[int], prefetch_batches: int) -> Generator[tuple[Any, int]]:
        """Make the batches of these steps in order; with each comes its number of samples."""
        with ExitStack() as stack:
            made = [
                stack.enter_context(closing(self._of_source(number, steps, prefetch_batches)))
                for number in range(len(self._mixed.sources))
            ]
            for step in steps:
                source, places = self._mixed.sources_at(self._plan, step, *self._part)
                here = [made[number] for number in np.unique(source) for _ in self._epochs(number, source, places)]
                order = np.empty(len(source), np.int64)
                order[np.argsort(source, kind="stable")] = np.arange(len(source))
                batch = self._put_together([next(each) for each in here], order)
                yield self._arrays.handed_out(batch), len(source)

    def _of_source(self, number: int, steps: Iterable[int], prefetch_batches: int) -> Generator[tuple[Source, Any]]:
        """Make what one source gives to these steps, an epoch of its own after the other."""
        source, (rank, world_size) = self._mixed.sources[number], self._part
        taken = (
            (epoch, step)
            for step in steps
            for epoch in self._epochs(number, *self._mixed.sources_at(self._plan, step, rank, world_size))
        )
        for epoch, together in groupby(taken, lambda each: each[0]):
            plan = source.plan(epoch, world_size)
            plain = {each: getattr(plan, each) for each in Plan.__dataclass_fields__}
            share = _Share(**{**plain, "drop_last": True}, mixed=self._mixed, whole=self._plan, number=number)
            made = Epoch(source, share, rank, world_size, arrays_of_this_installation(), self._meter)
            with closing(made.batches((step for _, step in together), prefetch_batches)) as batches:
                yield from ((source, batch) for batch, _ in batches)

    def _epochs(self, number: int, source: npt.NDArray[np.int32], places: npt.NDArray[np.int64]) -> list[int]:
        own = places[source == number] // self._mixed.sources[number].num_positions
        epochs: list[int] = np.unique(own).tolist()
        return epochs

    def _put_together(self, parts: Sequence[tuple[Source, Any]], order: npt.NDArray[np.int64]) -> Any:
        """Put the parts of a batch one behind the other, and their samples in the order of the mix."""
        first, batch = parts[0]
        if len(parts) == 1:
            return batch
        for source, part in parts[1:]:
            if part.keys() != batch.keys():
                raise DataError(
                    f"{first.table!r} gives batches of {', '.join(batch)}, {source.table!r} of {', '.join(part)}; "
                    "mixed loaders must give the same, name columns=[…] or let a transform do it"
                )
        return {key: self._values(key, [(source, part[key]) for source, part in parts], order) for key in batch}

    def _values(self, key: str, parts: Sequence[tuple[Source, Any]], order: npt.NDArray[np.int64]) -> Any:
        values = [value for _, value in parts]
        if all(isinstance(value, list) for value in values):
            flat = [each for value in values for each in value]
            return [flat[i] for i in order.tolist()]
        described = {(_form(value), source.table) for source, value in parts}
        if len({form for form, _ in described}) > 1:
            told = "; ".join(f"{form} in {table!r}" for form, table in sorted(described))
            raise DataError(f"{key!r} is {told}; mixed loaders must give the same, with decode=… or a transform")
        return self._arrays.join(values, order)


def _form(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{value.dtype} {tuple(value.shape[1:])}"
