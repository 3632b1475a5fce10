"""Images as plain bytes: one flat file, which is the bound, and one file an image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from benchmarks.harness import Arm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.media import Ints, MediaRows
    from benchmarks.point_readers.reader import Selector

Extent = tuple[int, int]  # offset and length, bytes


class FlatFile:
    """`os.pread` of known offsets in one file: a system call and a copy per image, nothing else."""

    arm: ClassVar[Arm] = Arm("flat file, os.pread at known offsets", "bound", "open file, offsets in memory")
    layout: ClassVar[str] = "flat"
    selects: ClassVar[Selector] = "row id"

    def __init__(self, folder: Path, rows: MediaRows) -> None:
        self._file = os.open(folder / "images", os.O_RDONLY)
        self._ends = np.cumsum(rows.sizes)
        self._sizes = rows.sizes

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        with (folder / "images").open("wb") as file:
            file.writelines(rows.images())

    def request(self, positions: Ints) -> list[Extent]:
        sizes = self._sizes[positions]
        return list(zip((self._ends[positions] - sizes).tolist(), sizes.tolist(), strict=True))

    def read(self, request: list[Extent]) -> list[bytes]:
        file = self._file
        return [os.pread(file, nbytes, offset) for offset, nbytes in request]

    def payloads(self, delivered: list[bytes]) -> Iterable[bytes]:
        return delivered


class FlatFileByKey(FlatFile):
    """The same with a dictionary from key to offset: the bound of a get by key."""

    arm: ClassVar[Arm] = Arm("flat file, dict of keys, os.pread", "bound", "open file, dict in memory")
    selects: ClassVar[Selector] = "key"

    def __init__(self, folder: Path, rows: MediaRows) -> None:
        super().__init__(folder, rows)
        self._ids = rows.ids
        self._extents = dict(zip(rows.ids, super().request(np.arange(rows.num_rows)), strict=True))

    def request(self, positions: Ints) -> list[str]:  # type: ignore[override]  # what a caller holds differs by selector
        return [self._ids[n] for n in positions.tolist()]

    def read(self, request: list[str]) -> list[bytes]:  # type: ignore[override]  # as above
        return super().read([self._extents[key] for key in request])


class FileEach:
    """A file an image in 256 folders: open, `os.pread`, close."""

    arm: ClassVar[Arm] = Arm("raw files, open + os.pread", "peer", "paths and sizes in memory")
    layout: ClassVar[str] = "files"
    selects: ClassVar[Selector] = "row id"

    def __init__(self, folder: Path, rows: MediaRows) -> None:
        self._paths = [str(folder / _path(key)) for key in rows.ids]
        self._sizes = rows.sizes

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        for number in range(256):
            (folder / f"{number:02x}").mkdir()
        for key, image in zip(rows.ids, rows.images(), strict=True):
            (folder / _path(key)).write_bytes(image)

    def request(self, positions: Ints) -> list[tuple[str, int]]:
        return [(self._paths[n], int(self._sizes[n])) for n in positions.tolist()]

    def read(self, request: list[tuple[str, int]]) -> list[bytes]:
        return [_read_file(path, nbytes) for path, nbytes in request]

    def payloads(self, delivered: list[bytes]) -> Iterable[bytes]:
        return delivered


def _path(key: str) -> str:
    return f"{key[:2]}/{key[2:]}.jpg"


def _read_file(path: str, nbytes: int) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        return os.pread(file, nbytes, 0)
    finally:
        os.close(file)
