"""What part of a video stands in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader.forms.sizes import Pad, Resize

if TYPE_CHECKING:
    from lakehouse.loader.forms.sizes import Size

__all__ = ["Clip", "Policy", "Short"]

Policy = Literal["random", "uniform", "start"]
Short = Literal["repeat", "raise"]
_LATEST = 1 - 1e-9  # a place is below 1


@dataclass(frozen=True)
class Clip:
    """Frames of a video, upright, as uint8 of shape ``(num_frames, channels, height, width)``.

    When each frame appears stands beside it: of a column ``video`` as ``video_pts_s``, float64, shape
    ``(num_rows, num_frames)``, seconds from the first frame of the video. Of a video that is a blob the header is read
    and what lies between the key frame before the clip and its end.

    Parameters
    ----------
    num_frames
        Of a clip.
    stride
        Frames of the video from one to the next; None spreads them over its whole length.
    policy
        Where a clip begins. ``"random"``: anywhere, drawn from seed, epoch and position, so the same after a resume and
        on any number of ranks. ``"uniform"``: at equal distances, the only one in the middle. ``"start"``: at the first
        frame.
    per_video
        Clips of one video; more than one stand on an axis of their own before the frames. What they share is read once.
    size
        What is done to each frame; None keeps them, and videos of different sizes are refused.
    short
        A video that has too few frames: ``"repeat"`` repeats its last one, and `LoaderStats.num_short_clips` counts
        it; ``"raise"`` makes it a bad row, see `LoaderOptions`.

    Raises
    ------
    InvalidArgumentError
        A value out of its range.

    Examples
    --------
    >>> import lakehouse as lh
    >>> lh.Clip(8, stride=2, policy="uniform", per_video=3, size=lh.Resize(112, 112)).num_frames
    8
    """

    num_frames: int
    stride: int | None = 1
    policy: Policy = "random"
    per_video: int = 1
    size: Size | None = None
    short: Short = "repeat"

    def __post_init__(self) -> None:
        for name in ("num_frames", "stride", "per_video"):
            value = getattr(self, name)
            if name == "stride" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidArgumentError(f"{name} is {value!r}; it is a whole number, 1 or more")
        for name, choices in (("policy", get_args(Policy)), ("short", get_args(Short))):
            if getattr(self, name) not in choices:
                raise InvalidArgumentError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(choices)}")
        if self.policy == "start" and self.per_video > 1:
            raise InvalidArgumentError(f"policy='start' gives one clip of a video, not {self.per_video}; use 'uniform'")
        if self.size is not None and not isinstance(self.size, Resize | Pad):
            raise InvalidArgumentError(f"size is {self.size!r}; it is lh.Resize(…), lh.Pad(…) or None")

    def places(self, rng: np.random.Generator) -> list[float]:
        """Give where each clip begins, rising: 0 is the first frame, below 1 the last one that leaves enough."""
        if self.policy == "random":
            return sorted(rng.random(self.per_video).tolist())
        if self.policy == "start":
            return [0.0]
        places: list[float] = np.linspace(0, _LATEST, self.per_video).tolist()
        return places if self.per_video > 1 else [0.5]
