"""What every way of loading batches has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.harness import Arm
    from benchmarks.loader_rows import LoaderRows

Level = Literal["raw", "decode", "augment"]
Sample = dict[str, Any]  # id and payload, at the level asked for


@dataclass(frozen=True)
class Job:
    """What is asked of a loader.

    Parameters
    ----------
    level
        Payloads as they are stored, decoded, or decoded and augmented.
    batch_size
        Rows of a batch.
    seed
        Of the order and the augmentation.
    num_workers
        Processes for an arm whose own threads do not decode.
    buffer_rows
        Rows in the shuffle buffer of an arm that has one: all of them get the memory of as many rows.
    """

    level: Level
    batch_size: int
    seed: int
    num_workers: int
    buffer_rows: int


class Reader:
    """One arm: made, it is open; `batches` gives one epoch. Its libraries are imported by `load`, before any clock starts."""

    arm: ClassVar[Arm]
    environment: ClassVar[str | None] = None  # whose libraries it needs, None for the project's
    layout: ClassVar[str]
    shuffles: ClassVar[bool] = True
    kinds: ClassVar[Sequence[str]] = ("image", "text", "narrow")
    levels: ClassVar[Sequence[Level]] = ("raw", "decode", "augment")

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        raise NotImplementedError

    @staticmethod
    def load() -> None:
        """Import what the arm needs."""

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        """Write `rows` under `folder`, at this system's best settings for such reads."""
        raise NotImplementedError

    def batches(self) -> Iterator[Any]:
        """Give the batches of one epoch."""
        raise NotImplementedError

    def samples(self, batch: Any) -> Mapping[str, Any]:
        """Give the ids and the payloads of a batch, in its order. Not timed."""
        return {"id": batch["id"], "payload": batch["payload"]}

    def state(self) -> Any:
        """Return where the consumer stands, None where this system cannot tell. Not timed."""
        return None

    def resume(self, state: Any) -> None:
        """Have the next `batches` go on there."""
        raise NotImplementedError

    def plan_nbytes(self) -> int | None:
        """Return the bytes that tell the order and go to each worker, None where this system cannot tell. Not timed."""
        return None
