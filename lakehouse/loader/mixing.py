"""Several loaders as one: batches whose samples come from each in a fixed share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader.forms.columns import ROW_ID, Form
from lakehouse.loader.loader import Loader, resumed
from lakehouse.loader.mixed import MixedSource
from lakehouse.loader.options import check_seed
from lakehouse.loader.order.schedule import Schedule
from lakehouse.loader.state import LoaderState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.loader.forms.columns import Column
    from lakehouse.loader.mixed import Until
    from lakehouse.loader.source import Source

    Loaders: TypeAlias = Mapping[Loader, float] | Iterable[tuple[Loader, float]]

__all__ = ["Mix", "MixDescription", "mix"]

FORMAT = 1
_ALIKE = ("batch_size", "num_workers", "prefetch_batches", "pin_memory", "on_bad_rows")


def mix(loaders: Loaders, *, seed: int = 0, until: Until = "first") -> Mix:
    """Mix loaders sample by sample, in fixed shares.

    Of the samples of any batch each loader gives its share, as nearly as whole samples allow. Each one goes through its
    own rows in its own order, epoch after epoch of its own; the batches of the mix are the same on any number of ranks
    and workers, and a state is resumed exactly.

    Parameters
    ----------
    loaders
        Each with its weight: ``{a: 0.7, b: 0.3}`` or ``[(a, 7), (b, 3)]``. Only how the weights compare matters. All
        have the same columns of the same form, and the same batch size, ranks, workers and `on_bad_rows`; their
        `drop_last` is of no account.
    seed
        Which of the possible orders of the sources.
    until
        When an epoch of the mix ends, in whole batches: ``"first"``, before a source would begin again; ``"longest"``,
        when every row of every source was given; or a number of batches. The next epoch goes on where each source
        stands.

    Raises
    ------
    InvalidArgumentError
        Loaders that do not go together, naming what differs; a weight that is not positive; a loader without rows.

    Examples
    --------
    >>> lake = lh.connect(folder)
    >>> a = lake.create_table("a", data=[{"x": i} for i in range(60)]).loader(batch_size=8)
    >>> b = lake.create_table("b", data=[{"x": -i} for i in range(1, 21)]).loader(batch_size=8)
    >>> mixed = lh.mix({a: 0.75, b: 0.25})
    >>> [int((batch["x"] < 0).sum()) for batch in mixed][:4]
    [2, 2, 2, 2]
    """
    if isinstance(loaders, Loader) or not isinstance(loaders, Iterable):
        raise InvalidArgumentError(
            f"mix takes loaders with their weights, {{a: 0.7, b: 0.3}}, not a {type(loaders).__name__}"
        )
    pairs = list(loaders.items() if isinstance(loaders, Mapping) else loaders)
    if not pairs:
        raise InvalidArgumentError("there is nothing to mix; give loaders with their weights: {a: 0.7, b: 0.3}")
    for pair in pairs:
        loader, weight = pair if isinstance(pair, tuple | list) and len(pair) == 2 else (pair, None)
        if not isinstance(loader, Loader) or isinstance(loader, Mix):
            raise InvalidArgumentError(
                f"mix takes loaders of tables, not {type(loader).__name__}; give (loader, weight)"
            )
        if not isinstance(weight, int | float | np.integer | np.floating) or not 0 < weight < float("inf"):
            raise InvalidArgumentError(
                f"the weight of {loader!r} is {weight!r}; it is a positive number: {{a: 0.7, b: 0.3}}"
            )
    if len({id(loader) for loader, _ in pairs}) < len(pairs):
        raise InvalidArgumentError("give each loader once; its weight says how much of it")
    schedule = Schedule(tuple(float(weight) for _, weight in pairs), check_seed(seed))
    return Mix([loader for loader, _ in pairs], schedule, until)


@dataclass(frozen=True)
class MixDescription:
    """An epoch of a mix, predicted.

    Parameters
    ----------
    tables
        What is mixed: each table and its version.
    num_rows, shares, num_passes
        By source: the rows of an epoch of its own, its share of the samples, and how often an epoch of the mix goes
        through it.
    num_batches, global_batch_size, until
        Batches of an epoch, samples of one over all ranks, and what ends it.
    """

    tables: tuple[str, ...]
    num_rows: tuple[int, ...]
    shares: tuple[float, ...]
    num_passes: tuple[float, ...]
    num_batches: int
    global_batch_size: int
    until: Until

    def __str__(self) -> str:
        lines = [f"{self.num_batches:,} batches of {self.global_batch_size:,} samples, until={self.until!r}"]
        for table, rows, share, passes in zip(self.tables, self.num_rows, self.shares, self.num_passes, strict=True):
            lines.append(f"{share:7.2%}  {table}: {rows:,} rows, {passes:.2f} times an epoch")
        return "\n".join(lines)


class Mix(Loader):
    """Batches of several loaders; made by `mix`, and used like any loader.

    Examples
    --------
    >>> lake = lh.connect(folder)
    >>> a = lake.create_table("a", data=[{"x": i} for i in range(60)]).loader(batch_size=8)
    >>> b = lake.create_table("b", data=[{"x": -i} for i in range(1, 21)]).loader(batch_size=8)
    >>> mixed = lh.mix({a: 3, b: 1}, until="longest")
    >>> print(mixed.describe())
    10 batches of 8 samples, until='longest'
     75.00%  a@2: 60 rows, 1.00 times an epoch
     25.00%  b@2: 20 rows, 1.00 times an epoch
    """

    _source: MixedSource  # type: ignore[assignment]  # which has what a loader asks of its source

    def __init__(self, loaders: Sequence[Loader], schedule: Schedule, until: Until) -> None:
        _check_alike(loaders)
        _check_until(until)
        first = loaders[0]
        sources = tuple(loader._source for loader in loaders)  # noqa: SLF001 - of the class this one extends
        size = first._source.options.batch_size * first._world_size  # noqa: SLF001
        source = MixedSource(sources, schedule, until, size)
        self._begin(source, first._rank, first._world_size, pin=False)  # type: ignore[arg-type]  # noqa: SLF001 - as above; they are pinned
        self._pins = first._pins  # noqa: SLF001
        if not source.num_batches:
            fewest = min(sources, key=lambda each: each.num_positions)
            raise InvalidArgumentError(
                f"{fewest.table!r} has {fewest.num_positions} rows, which end before a global batch of {size}; choose "
                "until='longest', a number of batches, or a smaller batch_size"
            )

    def __repr__(self) -> str:
        return (
            f"<Mix of {self._source.table}: {len(self):,} batches of {self._source.options.batch_size}, "
            f"{self.batch_type}, rank {self._rank} of {self._world_size}, epoch {self._cursor.epoch}, batch "
            f"{self._cursor.received}>"
        )

    def describe(self) -> MixDescription:  # type: ignore[override]  # of several tables
        """Say what an epoch is made of; print it, or look at its fields."""
        source = self._source
        counts = source.schedule.counts(source.num_batches * source.global_batch_size)
        rows = tuple(each.num_positions for each in source.sources)
        return MixDescription(
            tuple(f"{each.table}@{each.version}" for each in source.sources),
            rows,
            tuple((source.schedule.shares / source.schedule.shares.sum()).tolist()),
            tuple((counts / np.array(rows)).tolist()),
            source.num_batches,
            source.global_batch_size,
            source.until,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return where the consumer stands, the same on every rank: a few hundred bytes of JSON for each source."""
        return {
            "format": FORMAT,
            **self._deciding(),
            "epoch": self._cursor.epoch,
            "num_batches": self._cursor.received,
            "sources": [self._state_of(source).to_dict() for source in self._source.sources],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was saved, at the versions it was saved at, on any number of ranks.

        Raises
        ------
        InvalidArgumentError
            The state is of another mix; it says what differs.
        VersionNotFoundError
            A version was cleaned up.
        """
        _check_state(state, self._deciding(), len(self._source.sources))
        sources = []
        for source, saved in zip(self._source.sources, state["sources"], strict=True):
            sources.append(resumed(source, LoaderState.from_dict(saved), self._world_size))
            if sources[-1] is not source and self._pins:
                sources[-1].pin()
        if any(new is not old for new, old in zip(sources, self._source.sources, strict=True)):
            self._source, self._processes = replace(self._source, sources=tuple(sources)), None
        self._iteration = object()  # as in `Loader`
        self._cursor.load(state["epoch"], state["num_batches"])

    def _state_of(self, source: Source) -> LoaderState:
        return LoaderState.of(source, source.plan(0, self._world_size), 0)

    def _deciding(self) -> dict[str, Any]:
        schedule, source = self._source.schedule, self._source
        return {
            "weights": list(schedule.weights),
            "seed": schedule.seed,
            "until": source.until,
            "global_batch_size": source.global_batch_size,
        }


def _check_until(until: Any) -> None:
    is_number = isinstance(until, int) and not isinstance(until, bool) and until > 0
    if not is_number and until not in ("first", "longest"):
        raise InvalidArgumentError(f"until is {until!r}; it is 'first', 'longest', or a number of batches, 1 or more")


def _check_alike(loaders: Sequence[Loader]) -> None:
    """Refuse loaders whose samples cannot stand in one batch, as far as that can be told before one is made."""
    first, *others = loaders
    sources = [loader._source for loader in loaders]  # noqa: SLF001 - of the class that `Mix` extends
    for loader, source in zip(loaders, sources, strict=True):
        if source.options.collate_fn is not None:
            raise InvalidArgumentError(f"a collate_fn of {source.table!r} would put its samples together by themselves")
        if not source.num_positions:
            raise InvalidArgumentError(f"the loader of {source.table!r} has no rows to mix: {loader!r}")
    for other in others:
        _check_same(first, other, "rank", first._rank, other._rank)  # noqa: SLF001
        _check_same(first, other, "world_size", first._world_size, other._world_size)  # noqa: SLF001
        mine, theirs = first._source, other._source  # noqa: SLF001
        for name in _ALIKE:
            _check_same(first, other, name, getattr(mine.options, name), getattr(theirs.options, name))
        _check_same(first, other, "packing", str(mine.options.packing), str(theirs.options.packing))
        if mine.options.transform is None and theirs.options.transform is None:
            _check_columns(mine, theirs)


def _check_columns(mine: Source, theirs: Source) -> None:
    here, there = (
        {
            column.name: (column.form.value, _type(source, column), column.values, column.decode)
            for column in source.columns
        }
        for source in (mine, theirs)
    )
    for name in {**here, **there}:
        if here.get(name) != there.get(name):
            raise InvalidArgumentError(
                f"column {name!r} is {_told(here.get(name))} in {mine.table!r} and {_told(there.get(name))} in "
                f"{theirs.table!r}; mixed loaders must give the same: choose columns=[…], convert it, or let a "
                "transform do it"
            )


def _type(source: Source, column: Column) -> str:
    if column.form not in (Form.NUMBERS, Form.RAGGED) or column.name == ROW_ID:
        return ""
    return str(source.snapshot.schema.field(column.name).type)


def _told(form: tuple[Any, ...] | None) -> str:
    return "not read" if form is None else ", ".join(str(each) for each in form if each)


def _check_same(first: Loader, other: Loader, name: str, mine: Any, theirs: Any) -> None:
    if mine != theirs:
        raise InvalidArgumentError(
            f"mixed loaders must have one {name}: it is {mine} in {first!r}, {theirs} in {other!r}"
        )


def _check_state(state: Mapping[str, Any], here: Mapping[str, Any], num_sources: int) -> None:
    is_one = isinstance(state, Mapping) and state.get("format") == FORMAT and isinstance(state.get("sources"), list)
    if not is_one or any(type(number := state.get(name)) is not int or number < 0 for name in ("epoch", "num_batches")):
        raise InvalidArgumentError("this is no state of a mix; hand load_state_dict what state_dict() returned")
    for name, value in here.items():
        if state.get(name) != value:
            raise InvalidArgumentError(f"the state was saved with {name} {state.get(name)}, this mix has {value}")
    if len(state["sources"]) != num_sources:
        raise InvalidArgumentError(f"the state is of {len(state['sources'])} sources, this mix has {num_sources}")
