"""Whether a file seems whole: marks of the end, lengths and checksums, without decoding anything."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

__all__ = ["container_ends", "picture_ends"]

_EOI = b"\xff\xd9"


def picture_ends(data: bytes | mmap, format: str) -> bool:  # noqa: A002 - Pillow's word
    """Tell whether the bytes of a picture go on to its end; a wrong ``False`` is possible, a decoder must confirm."""
    return _PICTURES[format](data)


def _jpeg(data: bytes | mmap) -> bool:
    """Look for the end mark behind the start of the scan: an embedded thumbnail has end marks of its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return data.rfind(_EOI, at) >= 0
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def _png(data: bytes | mmap) -> bool:
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False


_PICTURES: dict[str, Callable[[bytes | mmap], bool]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": lambda data: int.from_bytes(data[4:8], "little") + 8 <= len(data),
    "GIF": lambda _: False,  # its mark is a byte that a cut leaves at the end of one file in 256
    "BMP": lambda data: 0 < int.from_bytes(data[2:6], "little") <= len(data),
}


def container_ends(file: BinaryIO) -> bool:
    """Tell whether an MP4, Matroska or AVI file goes on to the length it states; ``True`` for what states none."""
    nbytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if head[4:8] in _FIRST_BOXES:
        return _boxes_end(file, nbytes)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _segment_ends(head, nbytes)
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 <= nbytes
    return True


_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"}


def _boxes_end(file: BinaryIO, nbytes: int) -> bool:
    """Walk the top-level boxes of ISO/IEC 14496-12, section 4.2."""
    at = 0
    while at + 8 <= nbytes:
        file.seek(at)
        head = file.read(16)
        size = int.from_bytes(head[:4])
        if not head[4:8].isalnum():  # junk behind the last box
            return True
        if size == 0:  # to the end of the file
            return True
        at += int.from_bytes(head[8:16]) if size == 1 else max(size, 8)
    return at <= nbytes


def _segment_ends(head: bytes, nbytes: int) -> bool:
    """Compare the length of the Segment that follows the EBML header (RFC 8794, section 4) with the file's."""
    size, at = _ebml_length(head, 4)
    at += size
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return True  # another layout than all writers use; left to the demuxer
    size, at = _ebml_length(head, at + 4)
    return size < 0 or at + size <= nbytes


def _ebml_length(data: bytes, at: int) -> tuple[int, int]:
    """Return a length and where its element starts; -1 is the reserved value for "unknown", of live streams."""
    first = data[at]
    width = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + width]) & ((1 << 7 * width) - 1)
    return (-1 if value == (1 << 7 * width) - 1 else value), at + width
