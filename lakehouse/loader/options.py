"""What was asked of a loader, as a record that checks itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from lakehouse.errors import InvalidArgumentError, closest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.loader.forms.clips import Clip
    from lakehouse.loader.forms.packing import Packing
    from lakehouse.loader.forms.sizes import Size
    from lakehouse.loader.order.plan import DropLast, Shuffle
    from lakehouse.where import Where

OnBadRows: TypeAlias = Literal["raise", "mask", "substitute"]
OnMissing: TypeAlias = Literal["raise", "skip", "fill"]

_SHUFFLES: dict[bool | str, Shuffle] = {
    True: "exact",
    False: "none",
    "exact": "exact",
    "block": "block",
    "none": "none",
}
_MEMORY = "1GB"
_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_MAX_SEED = (1 << 63) - 1
_MAX_EPOCH = 1 << 62  # the ones after it are int64 as well


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
        True or ``"exact"``: every order is as likely as every other; ``"block"``: blocks of neighbouring rows are
        read in one go and mixed with others, for object stores and for narrow rows; False or ``"none"``: the order of
        the table. `Loader.describe` tells what an order costs and how well it mixes.
    shuffle_memory
        What all ranks together may hold of rows that ``"block"`` mixes, in bytes or as ``"1GB"``, which it is if None.
        More mixes better. The same amount gives the same order on any number of ranks.
    seed
        Which shuffle, in ``[0, 2**63)``.
    rank, world_size
        This process among those that share a global batch; None asks ``torch.distributed``, else 0 of 1. All ranks of
        ``torch.distributed`` make the loader together; one that only some of them make takes ``rank=0, world_size=1``.
    decode
        How pictures and videos are brought to one size, by column: ``{"image": Resize(224, 224)}`` or ``Pad``,
        ``{"video": Clip(num_frames=8)}``. None leaves the bytes as they are stored. Without an entry pictures of
        different sizes are refused, and videos are bytes.
    packing
        Cut sequences of one length out of a column of tokens, instead of handing out rows; see `Packing`.
    progress
        A bar of the epoch's batches, which knows where a resumed one stands: True shows it in any case, None on a
        terminal (elsewhere a log line a minute), False not.
    num_workers
        Processes that read, decode and transform, by torch's ``DataLoader``; 0 means threads of this one. As with any
        process that is spawned, a script needs ``if __name__ == "__main__":`` around what it runs.
    transform
        Called with each row, a mapping, and returns one, whose values stand in the batch: numbers and arrays as one
        array, anything else as a list. With a `collate_fn` it may return what it likes. A parameter named ``rng`` gets
        a ``numpy.random.Generator`` that depends on seed, epoch and position alone.
    collate_fn
        Called with the list of what became of the rows of a batch; what it returns is the batch.
    drop_last
        What becomes of an incomplete last batch. True leaves it out. False keeps it; shared by several ranks, it is
        filled up with repeats and every batch has ``_is_pad``, bool, shape ``(num_rows,)``. ``"uneven"`` shares out
        what there is and repeats nothing: ranks differ by a row or by a batch, which suits evaluation in one process
        or under torch's ``Join``.
    on_bad_rows
        What a row does whose picture is missing or does not decode, or whose transform raises: ``"raise"``;
        ``"mask"``: another row of the batch stands there, and ``_is_bad``, bool, shape ``(num_rows,)``, tells where;
        ``"substitute"``: the next good row of the global order stands there. A rank never gets shorter.
    on_missing
        What becomes of rows whose features, those in `columns` and those that `where` names, are missing, stale or
        failed: ``"raise"`` refuses to open and says how many there are; ``"skip"`` leaves them out; ``"fill"`` runs
        the backfill for them first, on rank 0, and reads the version that comes of it. A NULL that is no such gap,
        in a number, vector or category, is left out by ``"skip"`` too, else it raises when the row is reached. NULL
        text is None; a NULL picture or clip is a bad row, as one that does not decode is, for to find them all of its
        column has to be read.
    weights
        A column that says how often a row comes in an epoch, 0 or more: a whole number so many times, a fraction on
        average. The sum is the number of rows of an epoch, the same in each.
    balance
        A column whose values come equally often; an epoch has about as many rows as without it.
    prefetch_batches
        Batches under way ahead of the consumer; 0 does everything in the consumer's thread.
    pin_memory
        Whether the tensors of a batch lie in page-locked memory, from where an accelerator copies them while the
        program goes on: ``tensor.to(device, non_blocking=True)``. Where there is no accelerator, a warning says so.

    Raises
    ------
    InvalidArgumentError
        A value out of its range, or a choice that is not available yet.

    Examples
    --------
    >>> LoaderOptions(batch_size=8, shuffle="block", shuffle_memory="500MB").batch_size
    8
    """

    columns: Iterable[str] | None = None
    where: Where | None = None
    batch_size: int = 64
    shuffle: bool | str = True
    shuffle_memory: int | str | None = None
    seed: int = 0
    rank: int | None = None
    world_size: int | None = None
    decode: Mapping[str, Size | Clip | None] = field(default_factory=dict)
    packing: Packing | None = None
    progress: bool | None = False
    num_workers: int = 0
    transform: Callable[..., Any] | None = field(default=None, repr=False)
    collate_fn: Callable[[list[Any]], Any] | None = field(default=None, repr=False)
    drop_last: DropLast = True
    on_bad_rows: OnBadRows = "raise"
    on_missing: OnMissing = "raise"
    weights: str | None = None
    balance: str | None = None
    prefetch_batches: int = 4
    pin_memory: bool = False

    @classmethod
    def of(cls, **given: Any) -> LoaderOptions:
        """Make a record of arguments that somebody else named.

        Raises
        ------
        InvalidArgumentError
            There is no such argument, or as above.
        """
        known = [each.name for each in fields(cls)]
        if strange := [name for name in given if name not in known]:
            raise InvalidArgumentError(
                f"a loader has no argument {strange[0]!r}; it has {', '.join(known)}{closest(strange[0], known)}"
            )
        return cls(**given)

    def __post_init__(self) -> None:
        if isinstance(self.columns, str):
            raise InvalidArgumentError(f"columns is a list of names; write columns=[{self.columns!r}]")
        if isinstance(self.columns, Iterable):
            object.__setattr__(self, "columns", tuple(self.columns))
        self._check_kinds()
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(dict.fromkeys(self.columns)))
        self._check_whole("batch_size", 1)
        self._check_whole("prefetch_batches", 0)
        self._check_whole("seed", 0, _MAX_SEED)
        self._check_whole("num_workers", 0)
        _choice("on_bad_rows", self.on_bad_rows, get_args(OnBadRows))
        object.__setattr__(self, "decode", dict(self.decode or {}))
        self._check_packing()
        self._check_available()
        _choice("on_missing", self.on_missing, get_args(OnMissing))
        self._check_draws()
        self._check_ranks()

    def _check_whole(self, name: str, least: int, most: int | None = None) -> None:
        object.__setattr__(self, name, _whole(name, getattr(self, name), least, most))

    def _check_kinds(self) -> None:
        names = isinstance(self.columns, tuple) and self.columns and all(isinstance(name, str) for name in self.columns)
        fits = {
            "columns": (names, "a list of names, or None for all columns"),
            "decode": (isinstance(self.decode, Mapping), "sizes by column: {'image': lh.Resize(224, 224)}"),
            "packing": (hasattr(self.packing, "sequence_length"), "lh.Packing(column, sequence_length)"),
            "progress": (isinstance(self.progress, bool), "True, False or None"),
            "pin_memory": (isinstance(self.pin_memory, bool), "True or False"),
            "transform": (callable(self.transform), "a function of a row"),
            "collate_fn": (callable(self.collate_fn), "a function of a list of rows"),
            "weights": (isinstance(self.weights, str), "the name of a column"),
            "balance": (isinstance(self.balance, str), "the name of a column"),
        }
        for name, (is_fit, form) in fits.items():
            value = getattr(self, name)
            if value is not None and not is_fit:
                raise InvalidArgumentError(f"{name} is {value!r:.80}; give {form}")

    def _check_draws(self) -> None:
        given = [name for name in ("weights", "balance", "packing") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidArgumentError(f"{' and '.join(given)} each decide how often a row comes; choose one of them")
        if self.balance is not None and self.order == "block":
            raise InvalidArgumentError(
                "balance takes the classes in turn, from all over the table, and shuffle='block' reads neighbouring "
                "rows; use shuffle='exact'"
            )

    def _check_ranks(self) -> None:
        if (self.rank is None) != (self.world_size is None):
            raise InvalidArgumentError(
                "rank and world_size go together; give both, or neither to ask torch.distributed"
            )
        if self.rank is not None and self.world_size is not None:
            self._check_whole("world_size", 1)
            self._check_whole("rank", 0, self.world_size - 1)

    def _check_available(self) -> None:
        if not isinstance(self.shuffle, bool | str) or self.shuffle not in _SHUFFLES:
            raise InvalidArgumentError(f"shuffle is True, False, 'exact', 'block' or 'none', not {self.shuffle!r}")
        if self.shuffle_memory is not None and self.order != "block":
            raise InvalidArgumentError(
                f"shuffle_memory is what shuffle='block' may hold, and shuffle is {self.shuffle!r}; leave it out"
            )
        _whole("shuffle_memory", self.shuffle_nbytes, 1)
        if not isinstance(self.drop_last, bool) and self.drop_last != "uneven":
            raise InvalidArgumentError(f"drop_last is True, False or 'uneven', not {self.drop_last!r}")

    def _check_packing(self) -> None:
        if self.packing is None:
            return
        if self.columns not in (None, (self.packing.column,)):
            raise InvalidArgumentError(
                f"packing gives sequences of {self.packing.column!r} and no other columns; leave columns=[…] out"
            )
        if self.decode:
            raise InvalidArgumentError("packing gives sequences of tokens, which have no media; leave decode={…} out")

    @property
    def order(self) -> Shuffle:
        """The shuffle by its name."""
        return _SHUFFLES[self.shuffle]

    @property
    def shuffle_nbytes(self) -> int:
        """`shuffle_memory` in bytes."""
        memory = _MEMORY if self.shuffle_memory is None else self.shuffle_memory
        if not isinstance(memory, str):
            return memory
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kKMGT]?B)", memory)
        if found is None:
            raise InvalidArgumentError(f"shuffle_memory is {memory!r}; give bytes, or write it like '500MB' or '2GB'")
        return int(float(found[1]) * _UNITS[found[2]])


def check_epoch(epoch: int) -> int:
    """Refuse what is no epoch."""
    return _whole("epoch", epoch, 0, _MAX_EPOCH)


def check_seed(seed: int) -> int:
    """Refuse what is no seed."""
    return _whole("seed", seed, 0, _MAX_SEED)


def _whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Give a whole number in a range as Python's own, which JSON keeps: NumPy's generators draw others."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        range_ = f"{least} or more" if most is None else f"{least} to {most}"
        raise InvalidArgumentError(f"{name} is {value!r}; it is a whole number, {range_}")
    return int(value)


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgumentError(
            f"{name} is {value!r}; it is one of {', '.join(map(repr, choices))}{closest(str(value), choices)}"
        )
