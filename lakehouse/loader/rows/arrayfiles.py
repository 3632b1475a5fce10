"""Arrays in one file, in Arrow's own format, and one copy of it in memory for all processes of a machine.

A file is made by the first process that needs it, under a lock, and mapped by all. It is written aside and named when
it is whole, and the locks end with the process that holds them, so a kill leaves nothing that another process could
take for a file or wait for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import tempfile
import time
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

__all__ = ["ArrayFile", "shared"]

_RECORD = b"lakehouse:record"
_PICKLED_NBYTES = 1 << 20
_KEPT_S = 3600.0  # a file that nobody maps stays that long: the next job often wants the same one
_logger = logging.getLogger("lakehouse")


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """Arrays by name and a record of plain values.

    Parameters
    ----------
    record
        What JSON keeps.
    arrays
        One-dimensional; those of a mapped file are read only.
    path
        The file of this machine they are mapped from; None where they are in this process's own memory.
    """

    record: dict[str, Any]
    arrays: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    path: Path | None = None

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes; of a mapped file, once for all processes of the machine."""
        return sum(array.nbytes for array in self.arrays.values())

    def to_bytes(self) -> pa.Buffer:
        """Return the file's content."""
        columns = {name: pa.LargeListArray.from_arrays([0, len(a)], pa.array(a)) for name, a in self.arrays.items()}
        batch = pa.record_batch(columns)
        batch = batch.replace_schema_metadata({_RECORD: json.dumps(self.record)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue()

    @classmethod
    def of(cls, content: pa.NativeFile | pa.Buffer | bytes, path: Path | None = None) -> ArrayFile:
        """Read what `to_bytes` gave, without a copy.

        Raises
        ------
        pyarrow.ArrowInvalid
            It is not whole.
        """
        batch = pa.ipc.open_file(content).get_batch(0)
        record = json.loads((batch.schema.metadata or {})[_RECORD])
        return cls(record, {name: np.asarray(batch[name].flatten()) for name in batch.schema.names}, path)

    @cached_property
    def _mapped(self) -> ArrayFile:
        return self if self.path is not None else shared(hashlib.sha256(self.to_bytes()).hexdigest()[:32], lambda: self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what is large as a file that workers map, so that a machine holds it once; this object holds it."""
        if self.path is None and self.nbytes <= _PICKLED_NBYTES:
            return ArrayFile.of, (self.to_bytes().to_pybytes(),)
        there = self._mapped
        return (_reopened, (there.path,)) if there.path is not None else (ArrayFile.of, (self.to_bytes().to_pybytes(),))


def _reopened(path: Path) -> ArrayFile:
    found = _mapped(path)
    assert found is not None  # who pickled it holds it
    return found


def shared(key: str, make: Callable[[], ArrayFile]) -> ArrayFile:
    """Return the arrays that all processes of this machine share under a key; the first one makes them.

    Parameters
    ----------
    key
        Letters and digits that stand for all that `make` depends on.
    make
        Called in one process at a time.
    """
    try:
        folder = _folder()
    except OSError as error:
        _logger.warning("%s; each process makes its own copy of the selection", error)
        return make()
    path = folder / f"{key}.arrow"
    if (found := _mapped(path)) is not None:
        return found
    with _locked(folder / f"{key}.lock"):
        return _mapped(path) or _kept(make, path)


def _kept(make: Callable[[], ArrayFile], path: Path) -> ArrayFile:
    made = make()
    try:
        _sweep(path.parent)
        aside = path.with_suffix(".aside")  # nobody else writes it: the lock is ours; what a kill left is written over
        aside.write_bytes(made.to_bytes())
        aside.replace(path)
    except OSError as error:
        _logger.warning("%s; each process makes its own copy of the selection", error)
        return made
    return _mapped(path) or made


def _mapped(path: Path) -> ArrayFile | None:
    """Map a file and keep it from being swept while the arrays are in use; None if there is no whole one."""
    try:
        number = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(number, fcntl.LOCK_SH)
    try:
        os.utime(number)
        found = ArrayFile.of(pa.memory_map(str(path)), path)
    except FileNotFoundError:  # swept at this moment
        os.close(number)
        return None
    except pa.ArrowInvalid:  # cut short by a power failure
        os.close(number)
        path.unlink(missing_ok=True)
        return None
    weakref.finalize(found, os.close, number)
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which goes with the lock."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(number, fcntl.LOCK_EX)
        if os.fstat(number).st_nlink:
            break
        os.close(number)  # who held it before removed it
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(number)


def _sweep(folder: Path) -> None:
    """Remove what nobody has used for a while and what killed processes left."""
    for path in folder.iterdir():
        with suppress(OSError):  # in use, or gone already
            if time.time() - path.stat().st_mtime < _KEPT_S:
                continue
            number = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(number)


def _folder() -> Path:
    """Return a folder of this machine, not of a home that machines share, that is this user's alone."""
    folder = Path(tempfile.gettempdir(), f"lakehouse-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise StorageError(f"{folder} belongs to somebody else, or others may write to it; set another TMPDIR")
    return folder
