"""Hash what a user's function does: its source, the project's functions it calls, the constants it uses.

Equal under reformatting, comments, docstrings and moves between files; different when a body, a helper, a
default, a closed-over or module-level constant changes. The environment (Python, packages) is not part of it.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import json
import re
import sys
import sysconfig
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from lakehouse.features.udfs.bytecode import bytecode_definition
from lakehouse.features.udfs.sourcecode import Definition, definition_of, function_codes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CodeHash", "hash_code", "hash_values", "is_installed"]


@dataclass(frozen=True, slots=True)
class CodeHash:
    """What identifies the code of a function.

    Attributes
    ----------
    digest
        64 hexadecimal digits; followed by the Python version where byte code had to stand in for source,
        because such hashes differ between Python versions.
    not_covered
        Names the function uses whose value is not part of the digest: open files, models, memory the function
        keeps. Declare ``version=`` if a change of theirs matters.
    """

    digest: str
    not_covered: tuple[str, ...] = ()


def hash_code(target: Any, *declared: object) -> CodeHash:
    """Hash a function or class together with what was declared about it.

    Parameters
    ----------
    target
        The user's function or class.
    *declared
        Constants that belong to it: output types, input names, arguments.
    """
    walk = _Walk(getattr(target, "__module__", None) or "__main__")
    token = ["udf", walk.cover(target, "itself"), [walk.cover(value, "declaration") for value in declared]]
    python = f":py{sys.version_info.major}.{sys.version_info.minor}" if walk.used_bytecode else ""
    return CodeHash(_sha256(token) + python, tuple(dict.fromkeys(walk.not_covered)))


def hash_values(*values: object) -> str:
    """Hash constants alone, for a function whose code is covered by a declared version."""
    walk = _Walk("__main__")
    return _sha256(["version", [walk.cover(value, "declaration") for value in values]])


def _sha256(token: object) -> str:
    return hashlib.sha256(json.dumps(token, sort_keys=True).encode()).hexdigest()


# Values whose repr tells all there is to know about them.
_PLAIN = (
    type(None),
    bool,
    int,
    complex,
    str,
    range,
    slice,
    date,
    datetime,
    time,
    timedelta,
    Decimal,
    Fraction,
    UUID,
)
_PLAIN_TYPES = (*_PLAIN, PurePath, type(...), type(NotImplemented))


def _constant(value: Any) -> object | None:
    """Return what stands for a constant in the digest, or ``None`` for other types than these."""
    kind = type(value)
    if kind in _PLAIN_TYPES or isinstance(value, PurePath):
        return [kind.__name__, repr(value)]
    if kind is float:
        return ["float", value.hex()]
    if kind in (bytes, bytearray):
        return ["bytes", hashlib.sha256(value).hexdigest()]
    if isinstance(value, re.Pattern):
        return ["re", repr(value.pattern), value.flags]
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        array = np.ascontiguousarray(value)
        return ["array", array.dtype.str, list(np.shape(value)), hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, pa.DataType | pa.Field | pa.Schema | np.dtype):
        return ["type", str(value)]
    return None


class _Walk:
    """One pass over everything a function reaches."""

    def __init__(self, module: str) -> None:
        self.home = _top(module)
        self.not_covered: list[str] = []
        self.used_bytecode = False
        self._seen: dict[int, int] = {}
        self._open: set[int] = set()

    def cover(self, value: Any, label: str) -> object:
        """Return the token of a value: JSON that is equal exactly if what is covered of it is."""
        constant = _constant(value)
        if constant is not None:
            return constant
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        if id(value) in self._open:
            return ["cycle"]
        if isinstance(value, FunctionType | type):
            if id(value) in self._seen:
                return ["seen", self._seen[id(value)]]
            self._seen[id(value)] = len(self._seen)
            return self._class(value) if isinstance(value, type) else self._function(value)
        self._open.add(id(value))
        try:
            if isinstance(value, list | tuple | set | frozenset | dict | MappingProxyType):
                return self._container(value, label)
            return self._callable(value, label) if callable(value) else self._instance(value, label)
        finally:
            self._open.discard(id(value))

    def _container(self, value: Any, label: str) -> object:
        kind = type(value).__name__
        if isinstance(value, dict | MappingProxyType):
            # In order: label maps are often enumerated, and a map in another order is then another map.
            return [kind, [[self.cover(k, label), self.cover(v, label)] for k, v in value.items()]]
        tokens = [self.cover(item, label) for item in value]
        return [kind, sorted(tokens, key=json.dumps) if isinstance(value, set | frozenset) else tokens]

    def _function(self, function: FunctionType) -> object:
        inner = getattr(function, "__wrapped__", None)
        if not self._is_ours(function):
            name = ["external", _top(function.__module__), function.__code__.co_qualname]
            return name if inner is None else [name, self.cover(inner, function.__qualname__)]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        token = [
            *self._definition(function, [function.__code__], {**function.__globals__, **_contents(cells)}),
            [self.cover(value, f"a default of {function.__qualname__}") for value in defaults],
        ]
        return token if inner is None else [token, self.cover(inner, function.__qualname__)]

    def _class(self, cls: type) -> object:
        if not self._is_ours(cls):
            return ["external", _top(cls.__module__), cls.__qualname__]
        names = getattr(cls, "_fields", None)
        if names is not None and issubclass(cls, tuple) and definition_of(cls) is None:
            return ["namedtuple", self.cover([names, getattr(cls, "_field_defaults", {})], cls.__qualname__)]
        codes = function_codes(cls)
        namespace: dict[str, Any] = dict(vars(sys.modules.get(cls.__module__, builtins)))
        for function in (member for member in vars(cls).values() if isinstance(member, FunctionType)):
            cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
            namespace |= _contents(cells)
        bases = [self.cover(base, base.__name__) for base in cls.__bases__]
        return [*self._definition(cls, codes, namespace), bases]

    def _definition(self, target: Any, codes: list[CodeType], namespace: Mapping[str, Any]) -> list[object]:
        definition = definition_of(target)
        if definition is not None:
            return [definition.text, self._loads(definition, namespace)]
        self.used_bytecode = True
        definition = bytecode_definition(codes)
        written = vars(target) if isinstance(target, type) else {}
        constants = {name: _constant(value) for name, value in written.items() if not name.startswith("__")}
        return [definition.text, constants, self._loads(definition, namespace)]

    def _loads(self, definition: Definition, namespace: Mapping[str, Any]) -> list[object]:
        tokens: list[object] = []
        for chain in definition.chains:
            if chain[0] not in namespace:  # a builtin, or not there yet: the name itself is in the text
                continue
            value, label, rest = self._resolve(namespace[chain[0]], chain)
            is_code = isinstance(value, ModuleType | type) or callable(value)
            if chain[0] in definition.state and not is_code:
                self.not_covered.append(label)
                continue
            tokens.append([label, self.cover(value, label)])
            if isinstance(value, type) and rest and _constant(vars(value).get(rest[0])) is not None:
                tokens.append([f"{label}.{rest[0]}", self.cover(vars(value)[rest[0]], label)])
        return tokens

    def _resolve(self, value: Any, chain: tuple[str, ...]) -> tuple[Any, str, tuple[str, ...]]:
        """Follow attributes through the project's modules and through what plain objects hold."""
        used = 1
        while used < len(chain):
            holder = value
            if isinstance(value, ModuleType) and not self._is_project(value.__name__, getattr(value, "__file__", None)):
                break
            if isinstance(value, type) or callable(value) or chain[used] not in getattr(value, "__dict__", {}):
                break
            value = vars(holder)[chain[used]]
            used += 1
        return value, ".".join(chain[:used]), chain[used:]

    def _callable(self, value: Any, label: str) -> object:
        if isinstance(value, MethodType):
            return ["method", self.cover(value.__self__, label), self.cover(value.__func__, label)]
        if isinstance(value, functools.partial):
            return [
                "partial",
                *(self.cover(part, label) for part in (value.func, value.args, value.keywords)),
            ]
        inner = getattr(value, "__wrapped__", None)
        if inner is not None:  # functools.lru_cache, a jitted function, another UDF
            return ["wrapper", type(value).__qualname__, self.cover(inner, label)]
        if isinstance(value, BuiltinFunctionType | np.ufunc) or not self._is_ours(type(value)):
            name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
            if name is None:
                self.not_covered.append(label)
            return ["external", _top(type(value).__module__), type(value).__qualname__, name]
        return self._instance(value, label)

    def _instance(self, value: Any, label: str) -> object:
        kind = type(value)
        if isinstance(value, Enum):
            return ["enum", kind.__qualname__, value.name, self.cover(value.value, label)]
        if is_dataclass(value):
            held = [[field.name, self.cover(getattr(value, field.name), label)] for field in fields(value)]
            return ["instance", self.cover(kind, label), held]
        self.not_covered.append(label)
        return ["not covered", self.cover(kind, label)]

    def _is_ours(self, target: FunctionType | type) -> bool:
        if isinstance(target, FunctionType):
            return self._is_project(target.__globals__.get("__name__", ""), target.__code__.co_filename)
        return self._is_project(target.__module__, getattr(sys.modules.get(target.__module__), "__file__", None))

    def _is_project(self, module: str, filename: str | None) -> bool:
        top = _top(module)
        if top in (self.home, "__main__"):
            return True
        if top == "lakehouse" or filename is None or filename.startswith("<frozen"):
            return False
        return not is_installed(filename)


_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_INSTALLED_PARTS = re.compile(r"[/\\](?:site|dist)-packages[/\\]")


def is_installed(filename: str) -> bool:
    """Tell whether a file belongs to Python or an installed package, not to somebody's project."""
    return filename.startswith(_INSTALLED) or _INSTALLED_PARTS.search(filename) is not None


def _top(module: str | None) -> str:
    # Where in a package something lies moves between its releases (numpy.core, numpy._core).
    return (module or "").partition(".")[0]


def _contents(cells: Mapping[str, Any]) -> dict[str, Any]:
    held = {}
    for name, cell in cells.items():
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return held
