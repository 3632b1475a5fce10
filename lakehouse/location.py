"""Where something lies: a folder or a bucket prefix, and how to reach it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse._messages import clean
from lakehouse.errors import InvalidArgumentError, translated

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Location:
    """A folder, local or remote, with the options that open it.

    Parameters
    ----------
    uri
        ``/absolute/path`` or ``scheme://bucket/prefix``, without a slash at the end.
    storage_options
        Credentials and endpoints as Lance takes them; never printed, never pickled by tables.
    """

    uri: str
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    @classmethod
    def of(cls, uri: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None) -> Location:
        """Make one from what a user types; local paths become absolute."""
        text = os.fspath(uri)
        if not text:
            raise InvalidArgumentError("the location is empty; give a folder or a URL such as s3://bucket/lake")
        if text.startswith("file://"):
            text = text.removeprefix("file://")
        if "://" not in text:
            text = str(Path(text).expanduser().absolute())
        return cls(text.rstrip("/") or "/", dict(storage_options or {}))

    @property
    def name(self) -> str:
        """The last part of the URI."""
        return self.uri.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether this is a path of this machine."""
        return "://" not in self.uri

    @property
    def path(self) -> Path:
        """The local path."""
        return Path(self.uri)

    def child(self, name: str) -> Location:
        """Return the folder `name` inside this one."""
        return Location(f"{self.uri.rstrip('/')}/{name}", self.storage_options)

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        import fsspec

        with translated(f"opening {clean(self.uri)}"):
            fs, root = fsspec.core.url_to_fs(self.uri, **fsspec_options(self.storage_options))
        return fs, root.rstrip("/")

    def read_bytes(self, name: str) -> bytes:
        """Read a whole file; `FileNotFoundError` if there is none."""
        if self.is_local:
            return (self.path / name).read_bytes()
        fs, root = self._remote
        data: bytes = fs.cat_file(f"{root}/{name}")
        return data

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, replacing an older one."""
        if not self.is_local:
            fs, root = self._remote
            fs.pipe_file(f"{root}/{name}", data)
            return
        target = self.path / name
        temporary = _write_aside(target, data)
        temporary.replace(target)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists; return whether it was written."""
        if not self.is_local:
            fs, root = self._remote
            try:
                fs.pipe_file(f"{root}/{name}", data, mode="create")
            except FileExistsError:
                return False
            return True
        target = self.path / name
        temporary = _write_aside(target, data)
        try:
            os.link(temporary, target)  # fails if the name is taken, on every POSIX file system
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def delete(self, name: str) -> None:
        """Remove a file or a folder with all it holds; nothing happens if it is not there."""
        if self.is_local:
            target = self.path / name
            if target.is_dir():
                import shutil

                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
            return
        fs, root = self._remote
        if fs.exists(f"{root}/{name}"):
            fs.rm(f"{root}/{name}", recursive=True)

    def listdir(self, name: str = "") -> list[str]:
        """Return the sorted names in a folder, empty if it is not there."""
        if self.is_local:
            folder = self.path / name
            return sorted(os.listdir(folder)) if folder.is_dir() else []
        fs, root = self._remote
        try:
            found = fs.ls(f"{root}/{name}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return sorted(entry.rstrip("/").rpartition("/")[2] for entry in found)

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name is there."""
        if self.is_local:
            return (self.path / name).exists()
        fs, root = self._remote
        return bool(fs.exists(f"{root}/{name}".rstrip("/")))

    def nbytes(self, name: str = "") -> int:
        """Return the bytes of all files in a folder."""
        if self.is_local:
            return sum(e.stat().st_size for e in (self.path / name).rglob("*") if e.is_file())
        fs, root = self._remote
        return int(fs.du(f"{root}/{name}".rstrip("/")))


def _write_aside(target: Path, data: bytes) -> Path:
    """Write beside the target and flush: a file under its own name is always whole, even after power loss."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(temporary)


# object_store's names (what Lance takes) to s3fs/gcsfs/adlfs's.
_FSSPEC_NAMES = {
    "aws_access_key_id": "key",
    "access_key_id": "key",
    "aws_secret_access_key": "secret",
    "secret_access_key": "secret",
    "aws_session_token": "token",
    "aws_endpoint": "endpoint_url",
    "endpoint": "endpoint_url",
    "account_name": "account_name",
    "account_key": "account_key",
}


def fsspec_options(options: Mapping[str, str]) -> dict[str, str]:
    """Return Lance's storage options under the names fsspec's file systems have; others pass unchanged.

    Examples
    --------
    >>> fsspec_options({"aws_access_key_id": "k", "anon": "true"})
    {'key': 'k', 'anon': 'true'}
    """
    return {_FSSPEC_NAMES.get(key.lower(), key): value for key, value in options.items()}
