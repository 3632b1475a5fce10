"""Where something lies: a folder or a bucket prefix, and how to reach it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import threading
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse._messages import clean
from lakehouse.errors import InvalidArgumentError, translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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

    def to_pickle(self) -> Location:
        """Return what a handle's pickle holds of it: options only on the way into a process that is being started.

        A pickle may end in a file, where no credential belongs; what `multiprocessing` starts gets it through a pipe.
        """
        return Location(self.uri, dict(self.storage_options) if get_spawning_popen() is not None else {})

    def child(self, name: str) -> Location:
        """Return the folder `name` inside this one."""
        return Location(f"{self.uri.rstrip('/')}/{name}", self.storage_options)

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        import fsspec

        with translated(f"opening {clean(self.uri)}"):
            # Other writers' files must be seen: s3fs and gcsfs remember listings unless told not to.
            options = {**fsspec_options(self.storage_options), "use_listings_cache": False}
            fs, root = fsspec.core.url_to_fs(self.uri, **options)
        return fs, root.rstrip("/")

    @contextmanager
    def _reaching(self, verb: str, name: str) -> Iterator[str]:
        """Give the path of a name; a missing file is for the caller, any other error is told as ours."""
        absent: FileNotFoundError | None = None
        whole = f"{self.uri}/{name}".rstrip("/")
        with translated(f"{verb} {whole if self.is_local else clean(whole)}"):
            try:
                yield str(self.path / name) if self.is_local else f"{self._remote[1]}/{name}".rstrip("/")
            except FileNotFoundError as error:
                if _NO_PLACE.search(str(error)):
                    raise
                absent = error
        if absent is not None:
            raise absent

    def read_bytes(self, name: str) -> bytes:
        """Read a whole file.

        Raises
        ------
        FileNotFoundError
            There is none.
        StorageError
        """
        with self._reaching("reading", name) as path:
            return Path(path).read_bytes() if self.is_local else bytes(self._remote[0].cat_file(path))

    def write_bytes(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file whole or not at all, replacing an older one.

        Parameters
        ----------
        name
            The file, folders between are made.
        data
            Its bytes.
        durable
            Whether it must outlive a power cut; without, it may come back empty.
        """
        with self._reaching("writing", name) as path:
            if self.is_local:
                _write_aside(Path(path), data, durable=durable).replace(path)
            else:
                self._remote[0].pipe_file(path, bytes(data))  # S3 takes no other buffers

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists; of any number of callers at once, one is told True.

        Raises
        ------
        StorageError
        """
        with self._reaching("writing", name) as path:
            if not self.is_local:
                return _create(self._remote[0], path, data)
            temporary = _write_aside(Path(path), data)
            try:
                os.link(temporary, path)  # fails if the name is taken, on every POSIX file system
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
            return True

    def delete(self, name: str) -> None:
        """Remove a file or a folder with all it holds; nothing happens if it is not there."""
        with suppress(FileNotFoundError), self._reaching("removing", name) as path:
            if not self.is_local:
                self._remote[0].rm(path, recursive=True)
            elif Path(path).is_dir():
                shutil.rmtree(path)
            else:
                Path(path).unlink()

    def listdir(self, name: str = "") -> list[str]:
        """Return the sorted names in a folder, empty if it is not there; leftovers of killed writers are not named."""
        with suppress(FileNotFoundError), self._reaching("listing", name) as path:
            if self.is_local:
                return sorted(e.name for e in Path(path).iterdir() if e.name[0] != ".") if Path(path).is_dir() else []
            found = self._remote[0].ls(path, detail=False)
            return sorted(entry.rstrip("/").rpartition("/")[2] for entry in found)
        return []

    def exists(self, name: str = "") -> bool:
        """Whether a file or folder of that name is there."""
        with self._reaching("looking for", name) as path:
            return Path(path).exists() if self.is_local else bool(self._remote[0].exists(path))

    def nbytes(self, name: str = "") -> int:
        """Return the bytes of all files in a folder, 0 if it is not there."""
        with suppress(FileNotFoundError), self._reaching("measuring", name) as path:
            if self.is_local:
                return sum(_size(entry) for entry in Path(path).rglob("*"))
            return int(self._remote[0].du(path))
        return 0


def _size(path: Path) -> int:
    """Others write meanwhile: what is gone by now has no size."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


# S3, Google and Azure of a bucket that is not there: nothing can be put into it, so it is no empty folder.
_NO_PLACE = re.compile(r"specified (?:bucket|container) does not exist", re.IGNORECASE)
# fsspec's memory file system asks whether a file is there and then writes it.
_ONE_AT_A_TIME = threading.Lock()
# What S3 answers where the name is taken; s3fs 2026.9 makes an EINVAL of it and keeps the answer as the cause.
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}


def _create(fs: Any, path: str, data: bytes) -> bool:
    try:
        with _ONE_AT_A_TIME if "memory" in fs.protocol else nullcontext():
            fs.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        answer = getattr(error.__cause__, "response", {})
        if answer.get("Error", {}).get("Code") in _TAKEN:
            return False
        raise
    return True


def _write_aside(target: Path, data: bytes, *, durable: bool = True) -> Path:
    """Write beside the target and flush: a file under its own name is always whole, even after power loss."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        if durable:
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
    "session_token": "token",
    "aws_endpoint": "endpoint_url",
    "endpoint": "endpoint_url",
    "account_name": "account_name",
    "account_key": "account_key",
}
_REGION = {"aws_region", "region", "aws_default_region"}
# How object_store makes its connections; fsspec's packages have nothing of the sort to set.
_LANCE_ONLY = re.compile(
    r"allow_http|(aws_)?virtual_hosted_style_request|client_\w+|\w*timeout|\w+_retry_\w+|\w+_retries"
)


def fsspec_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Return Lance's storage options under the names fsspec's file systems have; others pass unchanged.

    Examples
    --------
    >>> fsspec_options({"aws_access_key_id": "k", "aws_region": "eu-west-1", "allow_http": "true", "anon": "true"})
    {'key': 'k', 'client_kwargs': {'region_name': 'eu-west-1'}, 'anon': 'true'}
    """
    named: dict[str, Any] = {}
    for name, value in options.items():
        if name.lower() in _REGION:
            named["client_kwargs"] = {"region_name": value}
        elif not _LANCE_ONLY.fullmatch(name.lower()):
            named[_FSSPEC_NAMES.get(name.lower(), name)] = value
    return named
