"""What every way of fetching a batch of images by position or key has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.harness import Arm
    from benchmarks.media import Ints, MediaRows

Selector = Literal["row id", "key"]


class Reader(Protocol):
    """One arm: constructed is open and ready; `read` is what the clock sees.

    `layout` names the folder `build` makes, so that arms may share one. Every `read` must leave each image in memory of this
    process, in the order and as often as asked: bytes objects and Arrow buffers are both one copy out of the page cache.
    """

    arm: ClassVar[Arm]
    layout: ClassVar[str]
    selects: ClassVar[Selector]

    def __init__(self, folder: Path, rows: MediaRows) -> None: ...

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        """Write `rows` under `folder`, at this system's best settings for such reads."""
        ...

    def request(self, positions: Ints) -> Any:
        """Turn positions into what a caller of this system would hold: row ids, keys, paths. Not timed."""
        ...

    def read(self, request: Any) -> Any:
        """Fetch the batch."""
        ...

    def payloads(self, delivered: Any) -> Iterable[bytes | memoryview]:
        """Take the images out of what `read` returned, for the digest. Not timed."""
        ...
