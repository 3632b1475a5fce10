"""The demo's input: pictures in one folder a subject, a video, texts, and one picture that is broken."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image

__all__ = ["Subject", "make_files", "subjects"]

CROPS = 13
CROP_PX = 240
_FPS = 25
_VIDEO_PX = (480, 270)
_JPEG_QUALITY = 90

# Photographs in scikit-image's wheel (their source and licence: its data/README.txt), with what they show.
_PHOTOGRAPHS = {
    "astronaut": ("astronaut.png", "Eileen Collins of NASA in front of a model of the Space Shuttle."),
    "bricks": ("brick.png", "A brick wall, seen straight on."),
    "cameraman": ("camera.png", "A man behind a camera on a tripod, black and white."),
    "cat": ("chelsea.png", "Chelsea, a ginger cat, looks into the camera."),
    "coffee": ("coffee.png", "A cup of espresso on a wooden table, a spoon beside it."),
    "coins": ("coins.png", "Greek coins from Pompeii in rows, lit from one side."),
    "grass": ("grass.png", "Short grass from above."),
    "gravel": ("gravel.png", "Gravel from above."),
    "galaxies": ("hubble_deep_field.jpg", "The Hubble deep field: galaxies on black."),
    "tissue": ("ihc.png", "Colonic glands, stained brown and blue, under a microscope."),
    "moon": ("moon.png", "The surface of the Moon with two craters."),
    "motorcycle": ("motorcycle_left.png", "A red motorcycle in a workshop."),
    "retina": ("retina.jpg", "The back of a human eye, vessels branching from the optic disc."),
    "rocket": ("rocket.jpg", "A rocket on its launch pad at dusk, smoke around it."),
}
_FILMED = ("galaxies", "retina")  # the two that are large enough to fly over


@dataclass(frozen=True)
class Subject:
    """A picture and the words that go with it."""

    name: str
    picture: Image.Image
    caption: str
    filmed: bool = False


def subjects() -> Iterator[Subject]:
    """Yield photographs if scikit-image is installed, else drawn pictures."""
    from PIL import Image

    if find_spec("skimage") is None:
        yield from _drawn()
        return
    from importlib.resources import files

    for name, (file, caption) in _PHOTOGRAPHS.items():
        with (files("skimage.data") / file).open("rb") as stream:
            yield Subject(name, Image.open(stream).convert("RGB"), caption, name in _FILMED)


def _drawn() -> Iterator[Subject]:
    """Ring patterns, each in two colours of its own."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(len(_PHOTOGRAPHS)):
        y, x = np.mgrid[0:420, 0:560] / 60.0
        centre, pace = random.uniform(1, 6, 2), random.uniform(1, 5)
        wave = 0.5 + 0.5 * np.sin(pace * np.hypot(y - centre[0], x - centre[1]))[..., None]
        first, second = random.uniform(0, 255, (2, 3))
        pixels = (wave * first + (1 - wave) * second).astype(np.uint8)
        caption = f"Rings around a point, {pace:.2f} radians a step, drawn by a sine."
        yield Subject(f"rings-{number:02}", Image.fromarray(pixels), caption, number == 0)


def make_files(folder: Path) -> None:
    """Write ``pictures/SUBJECT/*.jpg``, ``videos/*.mp4`` (if PyAV is installed) and ``texts/*.txt``.

    One picture is a file cut in half, as a broken download leaves it.
    """
    (folder / "texts").mkdir(parents=True)
    for number, subject in enumerate(subjects()):
        _write_pictures(folder / "pictures" / subject.name, subject, np.random.default_rng(number))
        (folder / "texts" / f"{subject.name}.txt").write_text(subject.caption + "\n", encoding="utf-8")
        if number == 0:
            whole = folder / "pictures" / subject.name / "whole.jpg"
            whole.with_name("broken.jpg").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        if subject.filmed and find_spec("av") is not None:
            _write_video(folder / "videos" / f"{subject.name}.mp4", subject.picture)


def _write_pictures(folder: Path, subject: Subject, random: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    picture = subject.picture
    picture.save(folder / "whole.jpg", quality=_JPEG_QUALITY)
    for number in range(CROPS):
        side = min(CROP_PX, *picture.size)
        left = int(random.integers(picture.width - side + 1))
        top = int(random.integers(picture.height - side + 1))
        crop = picture.crop((left, top, left + side, top + side))
        crop.save(folder / f"part-{number:02}.jpg", quality=_JPEG_QUALITY)


def _write_video(path: Path, picture: Image.Image, num_frames: int = 3 * _FPS) -> None:
    """Write a flight over a picture, from corner to corner in three seconds."""
    import av

    path.parent.mkdir(exist_ok=True)
    width, height = _VIDEO_PX
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(num_frames):
            along = number / (num_frames - 1)
            left, top = round(along * (picture.width - width)), round(along * (picture.height - height))
            view = picture.crop((left, top, left + width, top + height))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(view), format="rgb24")))
        container.mux(stream.encode())
