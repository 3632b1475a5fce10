"""How a user's function gets into another process: as the code that this process runs, not as its file now reads."""

from __future__ import annotations

import atexit
import hashlib
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.errors import BackfillError, InvalidArgumentError, SchemaError
from lakehouse.features.udfs.codehash import is_installed
from lakehouse.features.udfs.udf import UDF, import_udf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

__all__ = ["Shipped", "held", "hold", "ship", "unpacked"]


@dataclass(frozen=True)
class Shipped:
    """A function on its way; it exists as long as the job and is never stored.

    Attributes
    ----------
    key
        Digest of the payload.
    payload
        A `UDF` as cloudpickle, or the name it is imported by.
    """

    key: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class _ByName:
    """What can be imported and not be pickled; the hash says whether it is the same code there."""

    name: str
    arguments: dict[str, Any] | None
    code_hash: str

    def udf(self) -> UDF:
        udf = import_udf(self.name, self.arguments)
        if udf.code_hash != self.code_hash:
            raise SchemaError(
                f"{self.name} is not in a worker what it is here (code {udf.code_hash[:12]}, here "
                f"{self.code_hash[:12]}): its file was changed meanwhile, or another module of that name came first; "
                "start Python anew and backfill again"
            )
        return udf


def ship(udf: UDF) -> Shipped:
    """Pack a function with all of its project's code that it uses.

    The project's modules go by value: a worker that imported them would compute with what their files say by then,
    and a worker elsewhere may not have them. What cannot be pickled so (a module that holds a lock, say) is imported
    there, and has to have the same hash.

    Raises
    ------
    InvalidArgumentError
        It can neither be pickled nor imported.
    """
    import cloudpickle

    try:
        with _project_by_value():
            payload = cloudpickle.dumps(udf)
    except Exception as error:  # whatever is in reach of the function may raise anything
        if udf.name.startswith("__main__:") or "<" in udf.name:
            raise InvalidArgumentError(
                f"{udf.name} cannot be sent to other processes: {error}; make what it holds inside the function, or in "
                "the __init__ of a class"
            ) from error
        payload = cloudpickle.dumps(_ByName(udf.name, udf.arguments, udf.code_hash))
    return Shipped(hashlib.sha256(payload).hexdigest(), payload)


_registering = threading.Lock()  # cloudpickle's registry belongs to the process


@contextmanager
def _project_by_value() -> Iterator[None]:
    import cloudpickle

    with _registering:
        before = cloudpickle.list_registry_pickle_by_value()
        own = [module for name, module in list(sys.modules.items()) if _is_project(name, module) and name not in before]
        for module in own:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in own:
                cloudpickle.unregister_pickle_by_value(module)


def _is_project(name: str, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or getattr(module, "__name__", None) != name:
        return False
    return name.partition(".")[0] not in ("lakehouse", "__main__") and not is_installed(file)


_own = threading.local()  # a thread each: instances of users' classes need not be safe to share


def unpacked(shipped: Mapping[str, Shipped]) -> dict[str, UDF]:
    """Return functions by the token of their feature, each unpacked once in each thread that asks.

    When others are asked for than are there, those that are not among them are closed: a model of the pass before
    would take the memory of the next one.

    Raises
    ------
    BackfillError
        One cannot be imported here.
    """
    there = _there()
    wanted = {each.key: each for each in shipped.values()}
    if not wanted.keys() <= there.keys():
        for key in there.keys() - wanted.keys():
            there.pop(key).close()
        there |= {key: _unpacked(each) for key, each in wanted.items() if key not in there}
    return {token: there[each.key] for token, each in shipped.items()}


def _unpacked(shipped: Shipped) -> UDF:
    import cloudpickle

    try:
        value = cloudpickle.loads(shipped.payload)
    except Exception as error:  # the imports of the user's modules may raise anything
        raise BackfillError(f"unpacking the function in a worker: {type(error).__name__}: {error}") from error
    return value.udf() if isinstance(value, _ByName) else value


def _there() -> dict[str, UDF]:
    """Return this thread's functions by the key of what they were unpacked from."""
    if not hasattr(_own, "udfs"):
        _own.udfs = {}
    return _own.udfs  # type: ignore[no-any-return]  # of a thread's own namespace


def release() -> None:
    """Close this thread's functions."""
    there = _there()
    while there:
        there.popitem()[1].close()


_held: dict[str, Shipped] = {}  # what this process exists for


def hold(shipped: Mapping[str, Shipped]) -> None:
    """Keep functions for a process that exists for them, and close them when it ends."""
    atexit.register(release)
    _held.update(shipped)


def held(tokens: Iterable[str]) -> dict[str, UDF]:
    """Return functions of this process by the token of their feature."""
    return unpacked({token: _held[token] for token in tokens})
