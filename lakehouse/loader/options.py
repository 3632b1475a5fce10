"""What was asked of a loader, as a record that checks itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from lakehouse.errors import InvalidArgumentError, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lakehouse.loader.plan import Shuffle
    from lakehouse.where import Where

OnBadRows: TypeAlias = Literal["raise", "mask", "substitute"]
OnMissing: TypeAlias = Literal["raise", "skip"]

_SHUFFLES: dict[bool | str, Shuffle] = {True: "exact", False: "none", "exact": "exact", "none": "none"}
_MAX_SEED = (1 << 63) - 1


@dataclass(frozen=True)
class LoaderOptions:
    """How a table becomes batches.

    Parameters
    ----------
    columns
        Names, None for all; kept as a tuple. ``_rowid`` can be named.
    where
        A predicate of Lance's SQL; None means all rows.
    batch_size
        Rows of a batch on one rank; the global batch is `batch_size` times `world_size`.
    shuffle
        True or ``"exact"``: every order is as likely as every other; False or ``"none"``: the order of the table.
    seed
        Which shuffle, in ``[0, 2**63)``.
    rank, world_size
        This process among those that share a global batch; None asks ``torch.distributed``, else 0 of 1.
    num_workers
        Processes that read, decode and transform, by torch's ``DataLoader``; 0 means threads of this one. As with any
        process that is spawned, a script needs ``if __name__ == "__main__":`` around what it runs.
    transform
        Called with each row, a mapping; what it returns stands in the batch. A parameter named ``rng`` gets a
        ``numpy.random.Generator`` that depends on seed, epoch and position alone.
    collate_fn
        Called with the list of rows of a batch; what it returns is the batch.
    drop_last
        Leave an incomplete last batch out. Kept and shared by several ranks, it is filled up with repeats and every
        batch has ``_is_pad``, bool, shape ``(num_rows,)``.
    on_bad_rows
        What a row does whose picture is missing or does not decode, or whose transform raises: ``"raise"``;
        ``"mask"``: another row of the batch stands there, and ``_is_bad``, bool, shape ``(num_rows,)``, tells where;
        ``"substitute"``: the next good row of the global order stands there. A rank never gets shorter.
    on_missing
        What NULL does in a number, vector or category: ``"raise"`` when the row is reached, or ``"skip"``: such rows
        are left out when the loader is made, before anything is counted. NULL text is None.
    prefetch_batches
        Batches under way ahead of the consumer; 0 does everything in the consumer's thread.

    Raises
    ------
    InvalidArgumentError
        A value out of its range, or a choice that is not available yet.
    """

    columns: Iterable[str] | None = None
    where: Where | None = None
    batch_size: int = 64
    shuffle: bool | str = True
    seed: int = 0
    rank: int | None = None
    world_size: int | None = None
    num_workers: int = 0
    transform: Callable[..., Mapping[str, Any]] | None = field(default=None, repr=False)
    collate_fn: Callable[[list[Any]], Any] | None = field(default=None, repr=False)
    drop_last: bool = True
    on_bad_rows: OnBadRows = "raise"
    on_missing: OnMissing = "raise"
    prefetch_batches: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):
            raise InvalidArgumentError(f"columns is a list of names; write columns=[{self.columns!r}]")
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(dict.fromkeys(self.columns)))
        _whole("batch_size", self.batch_size, 1)
        _whole("prefetch_batches", self.prefetch_batches, 0)
        _whole("seed", self.seed, 0, _MAX_SEED)
        _whole("num_workers", self.num_workers, 0)
        _choice("on_bad_rows", self.on_bad_rows, get_args(OnBadRows))
        self._check_available()
        _choice("on_missing", self.on_missing, get_args(OnMissing))
        self._check_ranks()

    def _check_ranks(self) -> None:
        if (self.rank is None) != (self.world_size is None):
            raise InvalidArgumentError(
                "rank and world_size go together; give both, or neither to ask torch.distributed"
            )
        if self.rank is not None and self.world_size is not None:
            _whole("world_size", self.world_size, 1)
            _whole("rank", self.rank, 0, self.world_size - 1)

    def _check_available(self) -> None:
        if isinstance(self.shuffle, str) and self.shuffle == "block":
            raise InvalidArgumentError("shuffle='block' is not available yet; use shuffle='exact'")
        if str(self.on_missing) == "fill":
            raise InvalidArgumentError("on_missing='fill' is not available yet; use on_missing='skip'")
        if not isinstance(self.shuffle, bool | str) or self.shuffle not in _SHUFFLES:
            raise InvalidArgumentError(f"shuffle is True, False, 'exact' or 'none', not {self.shuffle!r}")

    @property
    def order(self) -> Shuffle:
        """The shuffle by its name."""
        return _SHUFFLES[self.shuffle]


def check_epoch(epoch: int) -> int:
    """Refuse what is no epoch."""
    _whole("epoch", epoch, 0, _MAX_SEED)
    return epoch


def _whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        range_ = f"{least} or more" if most is None else f"{least} to {most}"
        raise InvalidArgumentError(f"{name} is {value!r}; it is a whole number, {range_}")


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgumentError(
            f"{name} is {value!r}; it is one of {', '.join(map(repr, choices))}{closest(str(value), choices)}"
        )
