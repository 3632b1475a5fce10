"""Folders as a team hands them over: pictures, videos and texts of many sizes, one in a hundred broken.

A few pictures and videos are encoded; every file is one of them with a comment of its own, so that all are whole and no
two are the same, and gigabytes are written as fast as the disk takes them.
"""

import functools
import hashlib
import io
import json
import struct
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.broken_files import WAYS, break_file

MB = 1 << 20
SHARE_BROKEN = 0.01
# A text that is cut off is a text; a picture inside a picture's name is none.
WAYS_OF = {
    "images": tuple(WAYS),
    "videos": tuple(way for way in WAYS if way != "bomb"),
    "texts": ("zero_byte", "dangling_symlink", "folder_with_the_name_of_a_file", "unreadable"),
}
_SHARE_OF = {"images": 0.72, "videos": 0.25, "texts": 0.03}
_FILES_A_FOLDER = 500
_GOP = 15


@dataclass(frozen=True)
class Plan:
    """How much of what.

    Parameters
    ----------
    nbytes
        Of all good files together, about.
    picture_nbytes
        Smallest and largest picture; sizes between are log-normal around their geometric mean.
    video_nbytes
        Sizes of the videos, with how often each comes.
    text_nbytes
        Mean size of a text.
    seed
        Decides everything.
    """

    nbytes: int
    picture_nbytes: tuple[int, int] = (20_000, 5 * MB)
    video_nbytes: tuple[tuple[int, float], ...] = (
        (MB // 2, 0.4),
        (MB, 0.3),
        (4 * MB, 0.18),
        (12 * MB, 0.08),
        (30 * MB, 0.03),
        (60 * MB, 0.01),
    )
    text_nbytes: int = 20_000
    seed: int = 0


@dataclass
class Content:
    """What lies in the folder of one table: SHA-256 of each good file, the way each broken one is broken, by path."""

    good: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def nbytes(self):
        return sum(self.sizes.values())


def build(folder, plan):
    """Write the files below `folder` and what they are into ``content.json``."""
    rng = np.random.default_rng(plan.seed)
    makers = {"images": _pictures(plan, rng), "videos": _videos(plan, rng), "texts": _texts(plan, rng)}
    content = {
        table: _fill(Path(folder) / table, table, makers[table], plan.nbytes * share)
        for table, share in _SHARE_OF.items()
    }
    written = {table: asdict(each) for table, each in content.items()}
    (Path(folder) / "content.json").write_text(json.dumps(written))


def load(folder):
    """Return the `Content` by table."""
    read = json.loads((Path(folder) / "content.json").read_text())
    return {table: Content(**each) for table, each in read.items()}


def _fill(folder, table, maker, nbytes):
    content, number = Content(), 0
    while content.nbytes < nbytes:
        path = _path(folder, number, maker.ending(number))
        data = maker.file(number)
        path.write_bytes(data)
        content.good[str(path)] = hashlib.sha256(data).hexdigest()
        content.sizes[str(path)] = len(data)
        number += 1
    # Broken ones lie between the good ones, each way at least once.
    num_broken = max(len(WAYS_OF[table]), round(SHARE_BROKEN * number))
    for which in range(num_broken):
        way = WAYS_OF[table][which % len(WAYS_OF[table])]
        beside = which * number // num_broken
        good = maker.file(beside)
        ending = ".png" if way == "bomb" else maker.ending(beside)
        path = _path(folder, beside, f"-broken{ending}")
        break_file(path, way, good, seed=which)
        content.broken[str(path)] = way
    return content


def _path(folder, number, ending):
    parent = folder / f"{number // _FILES_A_FOLDER:03}"
    parent.mkdir(parents=True, exist_ok=True)
    return parent / f"{number:06}{ending}"


class _Varied:
    """Files made from a few finished ones by a comment that only the n-th has."""

    def __init__(self, originals, weights, rng):
        self._originals, self._rng = originals, rng
        self._which = functools.cache(lambda number: int(rng.choice(len(originals), p=weights)))

    def ending(self, number):
        return self._originals[self._which(number)][0]

    def file(self, number):
        ending, data = self._originals[self._which(number)]
        return _COMMENTED[ending](data, f"file {number:08}".encode())


def _in_jpeg(data, comment):
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + data[2:]


def _in_png(data, comment):
    body = b"tEXtComment\0" + comment
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    header_end = 8 + 25  # signature and IHDR
    return data[:header_end] + chunk + data[header_end:]


def _in_mp4(data, comment):
    return data + struct.pack(">I", 8 + len(comment)) + b"free" + comment


_COMMENTED = {".jpg": _in_jpeg, ".png": _in_png, ".mp4": _in_mp4}


def _pictures(plan, rng, num_originals=16):
    low, high = (np.log(nbytes) for nbytes in plan.picture_nbytes)
    logs = np.linspace(low, high, num_originals)
    weights = np.exp(-(((logs - (low + high) / 2) / (high - low) * 4) ** 2) / 2)
    kinds = ["PNG" if n % 4 == 3 else "JPEG" for n in range(num_originals)]
    made = [_picture(kind, nbytes, rng) for kind, nbytes in zip(kinds, np.exp(logs), strict=True)]
    return _Varied(made, weights / weights.sum(), rng)


def _picture(kind, nbytes, rng):
    """Noise: 3 bytes a pixel as PNG, 1.5 as a JPEG of quality 90."""
    side = int((nbytes / (3 if kind == "PNG" else 1.5)) ** 0.5)
    pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
    out = io.BytesIO()
    options = {"compress_level": 1} if kind == "PNG" else {"quality": 90}
    Image.fromarray(pixels).save(out, kind, **options)
    return (".png" if kind == "PNG" else ".jpg"), out.getvalue()


def _videos(plan, rng):
    weights = np.array([weight for _, weight in plan.video_nbytes])
    made = [(".mp4", _video(nbytes, rng)) for nbytes, _ in plan.video_nbytes]
    return _Varied(made, weights / weights.sum(), rng)


def _video(nbytes, rng, width_px=640, height_px=360):
    """Noise in as many frames as it takes."""
    out = io.BytesIO()
    noise = [rng.integers(0, 256, (height_px, width_px, 3), np.uint8) for _ in range(5)]
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast", "qp": "20"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width_px, height_px, "yuv420p", _GOP
        written, number = 0, 0
        while written < nbytes:
            packets = stream.encode(av.VideoFrame.from_ndarray(noise[number % len(noise)], "rgb24"))
            written += sum(packet.size for packet in packets)
            file.mux(packets)
            number += 1
        file.mux(stream.encode(None))
    return out.getvalue()


class _Texts:
    """Words, some with letters of two and three bytes."""

    _WORDS = [
        "the",
        "sea",
        "a",
        "lake",
        "Fluß",
        "über",
        "湖",
        "fish",
        "of",
        "and",
        "water",
        "swims",
        "near",
        "deep",
        "cold",
        "clear",
        "naïve",
        "stone",
    ]

    def __init__(self, mean_nbytes, rng):
        self._mean = mean_nbytes
        self._lake = " ".join(rng.choice(self._WORDS, size=8 * mean_nbytes // 5))
        self._length = functools.cache(lambda number: int(min(rng.exponential(mean_nbytes), len(self._lake))))

    def ending(self, number):
        return ".md" if number % 3 == 0 else ".txt"

    def file(self, number):
        start = 37 * number % 1000
        return f"Text {number:08}\n\n{self._lake[start : start + self._length(number)]}\n".encode()


def _texts(plan, rng):
    return _Texts(plan.text_nbytes, rng)
