"""Files broken on purpose, in eight ways; each is made from a good one by name, the same for the same seed.

``truncated``, ``bomb`` and ``corrupted_header`` are for pictures; videos know all but ``bomb``.
"""

import random
import struct
import zlib

_KEPT = {b"\xff\xd8\xff": 3, b"\x89PNG": 8, b"GIF8": 6, b"RIFF": 12, b"BM": 2}  # the magic a damaged header keeps


def zero_byte(path, good, rng):
    path.write_bytes(b"")


def truncated(path, good, rng):
    """The header is whole, the end is missing."""
    path.write_bytes(good[: int(len(good) * rng.uniform(0.4, 0.9))])


def wrong_extension(path, good, rng):
    path.write_text("This is a text, whatever it is called.\n" * 8)


def bomb(path, good, rng):
    """A PNG of some hundred bytes that says it has 3.6 thousand million pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND")
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def corrupted_header(path, good, rng):
    """The first bytes still say what it is, those behind them are lost."""
    kept = next((n for magic, n in _KEPT.items() if good.startswith(magic)), 0)
    path.write_bytes(good[:kept] + bytes(64) + good[kept + 64 :])


def dangling_symlink(path, good, rng):
    path.symlink_to(path.with_name(f"no-such-file-{rng.randrange(10**9)}"))


def folder_with_the_name_of_a_file(path, good, rng):
    path.mkdir()


def unreadable(path, good, rng):
    """A link to itself: no permission of any user opens it, root included."""
    path.symlink_to(path)


WAYS = {
    way.__name__: way
    for way in (
        *(zero_byte, truncated, wrong_extension, bomb),
        *(corrupted_header, dangling_symlink, folder_with_the_name_of_a_file, unreadable),
    )
}


def break_file(path, way, good, seed=0):
    """Put a file broken in the way named at `path`, where nothing is yet.

    Parameters
    ----------
    path
        A `pathlib.Path`.
    way
        A key of `WAYS`.
    good
        What the file would hold.
    seed
        Decides where a truncated one is cut.
    """
    WAYS[way](path, good, random.Random(f"{seed}/{way}/{path.name}"))
    return path
