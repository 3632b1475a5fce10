"""The `udf` decorator: a user's function or class, its types, its inputs and the hash of its code."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from lakehouse.errors import InvalidArgumentError, SchemaError, closest
from lakehouse.features.udfs.codehash import CodeHash, hash_code, hash_values
from lakehouse.features.udfs.signature import (
    InputKind,
    input_columns,
    json_arguments,
    kind_of,
    parameter_annotations,
)
from lakehouse.types import Type, check_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["UDF", "UDFClass", "as_udf", "import_udf", "udf"]

DataType: TypeAlias = "pa.DataType | str | Type"


@dataclass(frozen=True, eq=False)
class UDF:
    """A function that fills feature columns; what `udf` makes of the user's. Calling it calls theirs.

    Attributes
    ----------
    name
        Where it is defined: ``module:qualname``.
    fields
        The columns it gives, media and categories with their metadata; one alone has the name of the function.
    inputs
        The columns it reads, in the order of its parameters.
    input_kinds
        In which form each is handed over.
    batch
        Whether it takes many rows at once.
    batch_size
        Rows a call, at most; ``None`` leaves it to the caller.
    version
        Declared version, which stands for the code in the hash.
    num_cpus, num_gpus, memory_nbytes
        Hints for executors that place work; nothing is limited by them.
    retry_on
        Exceptions after which a call is worth another try. Not part of the hash: trying again changes no value.
    arguments
        What the class was called with; ``None`` for a function.
    target
        The user's function or class.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from lakehouse.features.udfs.udf import udf
    >>> @udf(pa.int64(), version="1")
    ... def area(width: int, height: int) -> int:
    ...     return width * height
    >>> area(3, 4), area.inputs, area.outputs
    (12, ('width', 'height'), {'area': DataType(int64)})
    """

    name: str
    fields: tuple[pa.Field, ...]
    inputs: tuple[str, ...]
    input_kinds: tuple[InputKind, ...]
    batch: bool
    batch_size: int | None
    version: str | None
    num_cpus: float
    num_gpus: float
    memory_nbytes: int | None
    retry_on: tuple[type[Exception], ...]
    arguments: dict[str, Any] | None
    target: Callable[..., Any] = field(repr=False)
    _live: dict[str, Any] = field(default_factory=dict, repr=False)
    _code: CodeHash | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("__wrapped__", self.target), ("__doc__", self.target.__doc__)):
            object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the user's function."""
        return self.function(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # In another process there may be no source to hash, and a model is built there anew.
        return {**self.__dict__, "_live": {}, "_code": self.code}

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """Arrow types by output name."""
        return {field.name: field.type for field in self.fields}

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself, or the instance of the class, built once in each process."""
        if self.arguments is None:
            return self.target
        if "instance" not in self._live:
            self._live["instance"] = self.target(**self.arguments)
        return self._live["instance"]  # type: ignore[no-any-return]  # a user's object

    def close(self) -> None:
        """Call the instance's ``close()``, if it was built and has one."""
        instance = self._live.pop("instance", None)
        close = getattr(instance, "close", None)
        if close is not None:
            close()

    @property
    def code(self) -> CodeHash:
        """The hash of the code as it is now, constants included, and what it leaves out."""
        if self._code is not None:
            return self._code
        several = list(self.outputs) if len(self.fields) > 1 else None
        types = [repr(Type.from_field(field)) for field in self.fields]
        kinds = [[kind.form, kind.listed, kind.takes_null] for kind in self.input_kinds]
        declared = (several, types, list(self.inputs), kinds, self.batch, self.arguments)
        if self.version is not None:
            return CodeHash(hash_values(self.version, self.target.__qualname__, *declared))
        return hash_code(self.target, *declared)

    @property
    def code_hash(self) -> str:
        """The digest of `code`."""
        return self.code.digest

    @property
    def not_covered(self) -> tuple[str, ...]:
        """Names whose value the hash leaves out; where a change of theirs matters, declare ``version=``."""
        return self.code.not_covered


@dataclass(frozen=True, eq=False)
class UDFClass:
    """A decorated class: calling it with its arguments gives the `UDF` to declare."""

    target: type
    options: dict[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        for name, value in (("__wrapped__", self.target), ("__doc__", self.target.__doc__)):
            object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> UDF:
        """Return what is declared; the instance is built where rows are computed."""
        arguments = json_arguments(self.target, args, kwargs)
        return _make(self.target, self.target.__call__, arguments=arguments, **self.options)


def udf(
    data_type: DataType | Mapping[str, DataType],
    *,
    inputs: Sequence[str] | None = None,
    batch: bool = False,
    batch_size: int | None = None,
    version: str | int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    memory_nbytes: int | None = None,
    timeout_s: float | None = None,
    retry_on: Sequence[type[Exception]] = (),
) -> Callable[[Any], Any]:
    """Declare a function or class that computes feature columns.

    A parameter annotated with ``PIL.Image.Image``, ``np.ndarray``, ``bytes`` or a handle such as ``lh.Video``
    gets the medium in that form; other parameters get Python values, with ``batch=True`` Arrow arrays, or lists
    and NumPy arrays where annotated so. Parameters with a default are no inputs unless named in `inputs`.

    A row with a NULL in an input gives NULL without a call; a parameter without annotation, or one that admits
    ``None`` (``int | None``), gets the ``None`` instead, and a ``pa.Array`` has its nulls.

    A medium may be returned as its bytes or as a handle such as ``lh.Video``, a text as ``str``, a picture also as
    ``PIL.Image.Image`` or uint8 array ``(height, width[, 3 or 4])``, which is stored as PNG: exact, and the same
    bytes each time; encode it for another format. Pictures and sounds lie in the column's own pages, videos and blobs
    apart, where parts of them can be read; ``lakehouse.types.Type("image", storage="blob")`` says it otherwise,
    for pictures of megabytes: those are read and compacted several times as fast apart.

    The hash of the code tells later whether the column still holds what the function would compute. It covers
    the source (not comments, layout, docstrings), the functions of the same project it calls, the constants it
    uses, the class's arguments, types and inputs; not the installed packages. ``version`` stands for all code.

    Parameters
    ----------
    data_type
        Type of the column: of Arrow, or a word as in schemas, ``"vector<float32>[384]"`` or ``"image"``. A mapping
        ``{column: type}`` is several columns, filled together or not at all, from a tuple or mapping the function
        returns.
    inputs
        Columns handed to the parameters in order; ``None`` means columns named like the parameters.
    batch
        Whether the function takes many rows at once and returns one value for each.
    batch_size
        Rows a call, at most. ``None``: as many as come at once; 64 where pictures are decoded.
    version
        Stands for the code in the hash: change it when the values change, and only then.
    num_cpus, num_gpus, memory_nbytes
        Hints for executors that place work by them; nothing in one process reads them.
    timeout_s
        Not available yet.
    retry_on
        Exceptions, such as ``(TimeoutError,)``, after which the same rows are tried again, later and later; others
        fail the row at once. The hash leaves them out, because trying again changes no value.

    Raises
    ------
    InvalidArgumentError
        The function cannot be called with columns, or an option is not available yet.
    SchemaError
        A type that cannot be stored.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from lakehouse.features.udfs.udf import udf
    >>> @udf({"wide": pa.bool_(), "ratio": pa.float32()})
    ... def shape(width: int, height: int) -> tuple[bool, float]:
    ...     return width > height, width / height
    >>> shape(4, 2)
    (True, 2.0)
    """
    _check_not_bare(data_type)
    if timeout_s is not None:
        raise InvalidArgumentError("timeout_s is not available yet; leave it out")
    if batch_size is not None and (not batch or batch_size < 1):
        needs = "is 1 or more" if batch else "belongs to batch=True; without it the function takes one row"
        raise InvalidArgumentError(f"batch_size={batch_size}: batch_size {needs}")
    if num_cpus <= 0 or num_gpus < 0 or (memory_nbytes is not None and memory_nbytes <= 0):
        raise InvalidArgumentError(f"{num_cpus=}, {num_gpus=}, {memory_nbytes=}: give positive numbers")
    if version is not None and not str(version):
        raise InvalidArgumentError("version is empty; leave it out to have the code hashed")
    options: dict[str, Any] = {
        "data_type": data_type,
        "inputs": inputs,
        "batch": batch,
        "batch_size": batch_size,
        "version": None if version is None else str(version),
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "memory_nbytes": memory_nbytes,
        "retry_on": _exceptions(retry_on),
    }

    def declare(target: Any) -> UDF | UDFClass:
        if not isinstance(target, type):
            return _make(target, target, arguments=None, **options)
        if not callable(getattr(target, "__call__", None)):  # noqa: B004 - of its instances, not the class
            raise InvalidArgumentError(f"{target.__qualname__} has no __call__ that takes the rows")
        hash_code(target)  # reads the source now; see `lakehouse.features.udfs.sourcecode`
        return UDFClass(target, options)

    return declare


def _exceptions(given: Any) -> tuple[type[Exception], ...]:
    is_listed = isinstance(given, tuple | list)
    if not is_listed or not all(isinstance(each, type) and issubclass(each, Exception) for each in given):
        raise InvalidArgumentError(f"retry_on={given!r}; it is a tuple of exceptions, as in (TimeoutError,)")
    return tuple(given)


def _check_not_bare(data_type: Any) -> None:
    if not isinstance(data_type, pa.DataType) and callable(data_type):
        raise InvalidArgumentError("give the type of the column: @lh.udf(pa.float32()), not @lh.udf")


def _make(
    target: Any,
    called: Any,
    *,
    arguments: dict[str, Any] | None,
    data_type: DataType | Mapping[str, DataType],
    inputs: Sequence[str] | None,
    **options: Any,
) -> UDF:
    if isinstance(target, UDF | UDFClass) or not callable(target):
        raise InvalidArgumentError(f"@lh.udf goes on a function or a class, not on {type(target).__name__}")
    name = f"{target.__module__}:{target.__qualname__}"
    if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called):
        raise InvalidArgumentError(f"{name} must return its value; async and generator functions do not")
    parameters = [*inspect.signature(called).parameters.values()][0 if arguments is None else 1 :]
    columns = input_columns(name, parameters, inputs)
    annotations = parameter_annotations(called)
    batch = options["batch"]
    kinds = tuple(kind_of(annotations.get(p.name), p.name, batch=batch) for p in parameters[: len(columns)])
    fields = _fields(target.__name__, data_type)
    made = UDF(name, fields, columns, kinds, arguments=arguments, target=target, **options)
    _ = made.code_hash  # reads the source now; see `lakehouse.features.udfs.sourcecode`
    return made


def _fields(name: str, data_type: DataType | Mapping[str, DataType]) -> tuple[pa.Field, ...]:
    if not isinstance(data_type, Mapping):
        return (_field(name, data_type),)
    if not data_type:
        raise InvalidArgumentError(f"{name}: no output; give {{column: type}}")
    for column in data_type:
        check_name(column)
    return tuple(_field(column, one) for column, one in data_type.items())


def _field(column: str, data_type: Any) -> pa.Field:
    if isinstance(data_type, pa.DataType):
        field = pa.field(column, data_type)
        Type.from_field(field)  # raises for what no table can hold
        return field
    if not isinstance(data_type, str | Type):
        raise SchemaError(f"{column}: {data_type!r} is no type; give an Arrow type such as pa.float32()")
    kind = Type(data_type) if isinstance(data_type, str) else data_type
    return pa.field(column, kind.arrow_type, metadata=kind.metadata or None)


def as_udf(value: Any) -> UDF:
    """Return a `UDF`, or say what is missing.

    Raises
    ------
    InvalidArgumentError
        A plain function, a class that was not called with its arguments, something else.
    """
    if isinstance(value, UDF):
        return value
    if isinstance(value, UDFClass):
        name = value.target.__qualname__
        raise InvalidArgumentError(f"{name} is a class; declare an instance of it: {name}(…)")
    if callable(value):
        name = getattr(value, "__qualname__", repr(value))
        raise InvalidArgumentError(f"{name} has no type; decorate it with @lh.udf(pa.float32())")
    raise InvalidArgumentError(f"{value!r:.80} is no function decorated with @lh.udf")


def import_udf(name: str, arguments: Mapping[str, Any] | None = None) -> UDF:
    """Import what a column was declared with.

    Parameters
    ----------
    name
        ``module:qualname``.
    arguments
        What a class was called with.

    Raises
    ------
    InvalidArgumentError
        It cannot be imported here: pass the function itself.
    """
    module, _, qualname = name.partition(":")
    if module == "__main__" or "<" in qualname or not qualname:
        raise InvalidArgumentError(f"{name!r} cannot be imported; pass the function: backfill(…, udf=…)")
    try:
        value: Any = import_module(module)
    except Exception as error:  # the user's module may raise anything
        raise InvalidArgumentError(f"importing {module!r} for {name!r}: {error}; pass udf=…") from error
    for part in qualname.split("."):
        if not hasattr(value, part):
            there = closest(part, vars(value))
            raise InvalidArgumentError(f"{module!r} has no {qualname!r}; pass the function: udf=…{there}")
        value = getattr(value, part)
    if isinstance(value, UDFClass) and arguments is not None:
        return value(**arguments)
    return as_udf(value)
