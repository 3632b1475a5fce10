"""Folders as data: a working copy of a built one, what changed in it, and making that durable."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


@dataclass(frozen=True)
class FileState:
    """What tells that a file was written: another inode, size or time of change."""

    inode: int
    nbytes: int
    modified_ns: int


Listing = dict["Path", FileState]


def listing(folder: Path) -> Listing:
    """Return the state of every file under `folder`."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = folder.__class__(parent, name)
            stat = path.stat()
            found[path] = FileState(stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def total_nbytes(files: Listing) -> int:
    """Return the sum of the file sizes."""
    return sum(state.nbytes for state in files.values())


def working_copy(folder: Path, copy: Path, immutable: Collection[str]) -> Path:
    """Copy `folder` to a new `copy`, durably; files with a suffix of `immutable` become hard links.

    A link takes no space and keeps the page cache warm, where the system under test never changes a file in place.
    """
    shutil.rmtree(copy, ignore_errors=True)

    def place(source: str, target: str) -> None:
        if os.path.splitext(source)[1] in immutable:
            os.link(source, target)
        else:
            shutil.copyfile(source, target)

    shutil.copytree(folder, copy, copy_function=place)
    make_durable(copy, {})
    return copy


def make_durable(folder: Path, before: Listing) -> None:
    """Flush what changed since `before` to the disk: the files and every folder, as each system alike must for its data to stay."""
    for path, state in listing(folder).items():
        if before.get(path) != state:
            _flush(path)
    for parent, _, _ in os.walk(folder):
        _flush(parent)


def _flush(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
