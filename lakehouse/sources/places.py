"""Where files are: this machine or anything fsspec reaches. Both list a folder, look at a file and read it."""

from __future__ import annotations

import io
import mmap
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, cast

from lakehouse._messages import clean
from lakehouse.errors import DataError, ResourceLimitError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MAX_FILE_NBYTES", "Entry", "Found", "Local", "Place", "Remote"]

# Larger files go to memory of their own, which the system has back the moment it is let go. By malloc, glibc keeps up
# to 64 MB in each thread's arena, whatever is trimmed: 6 GB of pictures and videos peaked at 580 MB, and so at 280.
MAPPED_NBYTES = 256 << 10
MAX_FILE_NBYTES = 2 << 30  # a cell that is larger could not be read back: max_media_nbytes of every read


class Entry(NamedTuple):
    """One name in a folder."""

    name: str
    is_folder: bool
    is_link: bool = False
    info: Mapping[str, Any] | None = None  # what a remote listing said of it


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was listed, or the reason why it cannot be one.

    Parameters
    ----------
    place
        Where it is.
    uri
        Path or URL, as it is stored.
    path
        The same, as the place is asked for it.
    nbytes
        Size; 0 where the place does not say.
    stamp
        Changes when the file does: modification time, or the ETag of an object.
    problem
        What listing it raised.
    """

    place: Place
    uri: str
    path: str
    nbytes: int = 0
    stamp: str = ""
    problem: Exception | None = None

    @property
    def key(self) -> str:
        """Names this state of the file: a changed file is another item."""
        return f"{self.uri}|{self.nbytes}|{self.stamp}"


class Place(Protocol):
    """A file system."""

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what a folder holds, sorted by name."""

    def identity(self, folder: str) -> object:
        """Return what is equal for two paths of one folder."""

    def found(self, path: str, entry: Entry | None = None) -> Found:
        """Look at a file; what goes wrong is its problem."""

    def read(self, found: Found) -> bytes | mmap.mmap:
        """Read a file as it was listed."""

    def open(self, found: Found) -> BinaryIO:
        """Open a file to read parts of it."""

    def kind(self, path: str) -> str | None:
        """Return ``folder``, ``file`` or ``None``."""

    def uri(self, path: str) -> str:
        """Return a path as it is stored and told."""


class Local:
    """The file system of this machine."""

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what a folder holds, sorted by name; only the names are held."""
        folders, links = set(), set()
        names = []
        with os.scandir(folder) as listed:
            for entry in listed:
                names.append(entry.name)
                if entry.is_symlink():
                    links.add(entry.name)
                if _is_folder(entry):
                    folders.add(entry.name)
        names.sort()
        return (Entry(name, name in folders, name in links) for name in names)

    def identity(self, folder: str) -> object:
        """Return device and inode."""
        status = os.stat(folder)  # noqa: PTH116 - a path of a million; no object for each
        return status.st_dev, status.st_ino

    def found(self, path: str, entry: Entry | None = None) -> Found:
        """Look at a file."""
        uri = self.uri(path)
        try:
            status = os.stat(path)  # noqa: PTH116 - as above
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            if gone and entry is not None and entry.is_link:
                target = os.readlink(path)  # noqa: PTH115 - as above
                error = FileNotFoundError(f"the link leads to {target!r}, which is not there")
            return Found(self, uri, path, problem=error)
        if not stat.S_ISREG(status.st_mode):
            return Found(self, uri, path, problem=_not_a_file(status))
        return Found(self, uri, path, status.st_size, str(status.st_mtime_ns))

    def read(self, found: Found) -> bytes | mmap.mmap:
        """Read a file; one that is written to meanwhile is refused, or its key would name other bytes."""
        _check_size(found.nbytes)
        with self.open(found) as file:
            if found.nbytes < MAPPED_NBYTES:
                data: bytes | mmap.mmap = file.read(found.nbytes + 1)
                num_read = len(data)
            else:
                data = mmap.mmap(-1, found.nbytes)
                num_read = _fill(data, file) + len(file.read(1))
        if num_read != found.nbytes:
            raise _changed()
        return data

    def open(self, found: Found) -> BinaryIO:
        """Open the file that was listed, unbuffered."""
        # Non-blocking, or a FIFO that took the file's place since it was listed would hang here.
        descriptor = os.open(found.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if (status.st_size, str(status.st_mtime_ns)) != (found.nbytes, found.stamp) or not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise _changed()
        return cast("BinaryIO", io.FileIO(descriptor))

    def kind(self, path: str) -> str | None:
        """Return what is at a path, links followed."""
        if os.path.isdir(path):  # noqa: PTH112 - as above
            return "folder"
        return "file" if os.path.lexists(path) else None

    def uri(self, path: str) -> str:
        """Return the path, with bytes that are not UTF-8 escaped: Arrow strings are UTF-8."""
        return os.fsencode(path).decode("utf-8", "backslashreplace")


def _fill(target: mmap.mmap, file: BinaryIO) -> int:
    """Read until the target is full or the file ends: Linux returns at most 2,147,479,552 bytes a call."""
    num_read = 0
    with memoryview(target) as view:
        while num_read < len(view) and (more := file.readinto(view[num_read:])):  # type: ignore[attr-defined]  # BinaryIO lacks it
            num_read += more
    return num_read


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _not_a_file(status: os.stat_result) -> OSError | DataError:
    if stat.S_ISDIR(status.st_mode):
        return IsADirectoryError("a folder, not a file")
    return DataError("a pipe, socket or device, not a file")


def _changed() -> DataError:
    return DataError("the file changed between listing and reading")


def _check_size(nbytes: int) -> None:
    if nbytes > MAX_FILE_NBYTES:
        raise ResourceLimitError(
            f"{nbytes:,} bytes; a cell holds at most {MAX_FILE_NBYTES:,}, split the file or store its address"
        )


class Remote:
    """A file system of fsspec."""

    # What tells one state of a file from another, best first; each file system has some of them.
    _STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        fs.invalidate_cache()  # listings are kept by the process: a second call would not see new files

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what a folder holds, sorted by name; fsspec holds the listing of one folder whole."""
        with _remote_errors(f"listing {self.uri(folder)}"):
            listed = self._fs.ls(folder, detail=True)
        own = folder.strip("/")  # object stores list the empty object that stands for the folder
        entries = (
            Entry(_name(i["name"]), i["type"] == "directory", info=i) for i in listed if i["name"].strip("/") != own
        )
        return iter(sorted(entries, key=lambda entry: entry.name))

    def identity(self, folder: str) -> object:
        """Return the path: there are no links."""
        return folder

    def found(self, path: str, entry: Entry | None = None) -> Found:
        """Look at a file, for which the listing said all there is to say."""
        uri = self.uri(path)
        try:
            with _remote_errors(f"looking at {uri}"):
                info = entry.info if entry is not None and entry.info is not None else self._fs.info(path)
        except StorageError:
            raise
        except OSError as error:
            return Found(self, uri, path, problem=error)
        if info["type"] == "directory":
            return Found(self, uri, path, problem=IsADirectoryError("a folder, not a file"))
        stamp = next((str(info[name]) for name in self._STAMPS if info.get(name)), "")
        return Found(self, uri, path, int(info.get("size") or 0), stamp)

    def read(self, found: Found) -> bytes:
        """Read a file whole."""
        _check_size(found.nbytes)
        with _remote_errors(f"reading {found.uri}"):
            data: bytes = self._fs.cat_file(found.path)
        if found.nbytes and len(data) != found.nbytes:
            raise _changed()
        return data

    def open(self, found: Found) -> BinaryIO:
        """Open a file, of which only the ranges read are fetched."""
        with _remote_errors(f"opening {found.uri}"):
            return cast("BinaryIO", self._fs.open(found.path, "rb"))

    def kind(self, path: str) -> str | None:
        """Return what is at a path."""
        with _remote_errors(f"looking at {self.uri(path)}"):
            if self._fs.isdir(path):
                return "folder"
            return "file" if self._fs.exists(path) else None

    def uri(self, path: str) -> str:
        """Return the URL."""
        url: str = self._fs.unstrip_protocol(path)
        return url


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


@contextmanager
def _remote_errors(asked: str) -> Iterator[None]:
    """Let pass what is one file's fault; anything else is the connection's, and would fail every file after it."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
        raise
    except Exception as error:
        raise StorageError(f"{asked}: {clean(str(error)) or type(error).__name__}") from error
