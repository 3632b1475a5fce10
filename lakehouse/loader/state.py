"""Where a loader stands, as a few hundred bytes of JSON that are the same on every rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.errors import InvalidArgumentError
from lakehouse.layout import line_location
from lakehouse.loader.order.blocks import Blocks
from lakehouse.loader.order.plan import ORDER_VERSION

if TYPE_CHECKING:
    from lakehouse.loader.order.plan import DropLast, Plan
    from lakehouse.loader.source import Source

__all__ = ["LoaderState"]

FORMAT = 2
"""1 had neither blocks nor packing, and is read as a state without them."""
_KINDS = {
    **dict.fromkeys(("table", "uri", "selection", "shuffle"), str),
    **dict.fromkeys(("version", "num_rows", "seed", "global_batch_size", "epoch", "num_samples"), int),
}
_DECIDING = ("global_batch_size", "shuffle", "seed", "drop_last", "packing")


@dataclass(frozen=True)
class LoaderState:
    """What was being read, in which order, and how far.

    Parameters
    ----------
    table, uri, version
        The table and the version of it.
    selection, num_rows
        Digest and number of the rows of an epoch.
    order, shuffle, seed, global_batch_size, drop_last, packing, blocks
        What decides the batches.
    epoch
        Which one.
    num_samples
        Rows of it that all ranks together have received; the one integer that moves.
    """

    table: str
    uri: str
    version: int
    selection: str
    num_rows: int
    shuffle: str
    seed: int
    global_batch_size: int
    drop_last: DropLast
    epoch: int
    num_samples: int
    packing: str | None = None
    blocks: Blocks | None = None
    order: int = ORDER_VERSION
    format: int = FORMAT

    @classmethod
    def of(cls, source: Source, plan: Plan, step: int) -> LoaderState:
        """Describe a loader that has handed out `step` batches of the epoch."""
        return cls(
            table=source.table,
            uri=line_location(source.lake, source.table).uri,
            version=source.version,
            selection=source.digest,
            num_rows=plan.num_rows,
            shuffle=plan.shuffle,
            seed=plan.seed,
            global_batch_size=plan.global_batch_size,
            drop_last=plan.drop_last,
            epoch=plan.epoch,
            num_samples=min(step * plan.global_batch_size, plan.num_rows),
            packing=None if source.options.packing is None else str(source.options.packing),
            blocks=plan.blocks,
        )

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> LoaderState:
        """Read what `to_dict` gave.

        Raises
        ------
        InvalidArgumentError
            It is none, or one of a newer release.
        """
        if not isinstance(state, Mapping):
            raise _no_state(f"it is a {type(state).__name__}")
        if wrong := [name for name, kind in _KINDS.items() if name in state and type(state[name]) is not kind]:
            raise _no_state(f"{wrong[0]} is {state[wrong[0]]!r}")
        format_, order = state.get("format", FORMAT), state.get("order", ORDER_VERSION)
        if format_ not in range(1, FORMAT + 1) or order != ORDER_VERSION:
            raise InvalidArgumentError(
                f"the state has format {format_} and order {order}; this release reads format {FORMAT} and order "
                f"{ORDER_VERSION}; resume with the release that saved it"
            )
        try:
            saved = cls(**{**state, "blocks": _blocks(state.get("blocks")), "format": FORMAT})
        except TypeError as error:
            raise _no_state(f"it has {', '.join(map(str, state)) or 'nothing'}") from error
        is_sound = 0 <= saved.num_samples <= saved.num_rows and saved.global_batch_size > 0
        if not (is_sound and 0 <= saved.epoch < 1 << 63):
            raise _no_state(
                f"epoch {saved.epoch}, {saved.num_samples} of {saved.num_rows} rows received in batches of "
                f"{saved.global_batch_size}"
            )
        return saved

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON keeps."""
        return asdict(self)

    @property
    def step(self) -> int:
        """Batches of the epoch that were received."""
        return -(-self.num_samples // self.global_batch_size)

    def check_continues(self, here: LoaderState) -> None:
        """Refuse to go on with a loader that would give other batches.

        Blocks are no reason: they follow from memory and sizes, and the loader takes those of the state.

        Raises
        ------
        InvalidArgumentError
            Naming what differs, and both values.
        """
        if self.table != here.table:
            raise InvalidArgumentError(
                f"the state was saved from table {self.table!r} ({self.uri}@{self.version}), "
                f"this loader reads {here.table!r}"
            )
        for name in _DECIDING:
            saved, asked = getattr(self, name), getattr(here, name)
            if saved != asked:
                hint = "; batch_size times world_size must stay the same" if name == "global_batch_size" else ""
                raise InvalidArgumentError(f"the state was saved with {name} {saved}, this loader has {asked}{hint}")

    def check_selects(self, here: LoaderState) -> None:
        """Refuse to go on with other rows.

        Raises
        ------
        InvalidArgumentError
            The selection differs.
        """
        if self.selection != here.selection:
            raise InvalidArgumentError(
                f"the state was saved over {self.num_rows} rows of {self.uri}@{self.version} (selection "
                f"{self.selection[:8]}…); with this loader's where there are {here.num_rows} (selection "
                f"{here.selection[:8]}…); resume with the same where, on_missing, weights and balance"
            )


def _blocks(saved: Any) -> Blocks | None:
    try:
        return None if saved is None else Blocks(**saved)
    except (TypeError, InvalidArgumentError) as error:
        raise _no_state(f"blocks is {saved!r}") from error


def _no_state(why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"this is no state of a loader: {why}; hand load_state_dict what state_dict() returned")
