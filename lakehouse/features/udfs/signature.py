"""What a signature says: which columns a function reads and in which form, what a class is called with."""

from __future__ import annotations

import importlib
import inspect
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from lakehouse.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Form", "InputKind", "input_columns", "json_arguments", "kind_of", "parameter_annotations"]

Form = Literal["value", "bytes", "numpy", "pil", "image", "video", "audio", "text", "blob", "arrow"]


@dataclass(frozen=True, slots=True)
class InputKind:
    """How one input is handed over.

    Attributes
    ----------
    form
        ``value``: as Python has it; ``bytes``; ``numpy``: numbers and vectors as an array, pictures decoded to
        uint8 ``(height, width, 3)``; ``pil``; ``image``, ``video``, ``audio``, ``text``, ``blob``: a handle; ``arrow``.
    listed
        With ``batch=True``: a list with one item a row, not one array.
    takes_null
        Whether NULL is handed over; otherwise such a row gives NULL without a call.
    """

    form: Form
    listed: bool = False
    takes_null: bool = False


class _Unknown:
    """Stands for a type of no special form: some Python value that is not None."""


_PLAIN: dict[Any, Form] = {np.ndarray: "numpy", bytes: "bytes"}
_BY_NAME: dict[tuple[str, str], Form] = {
    ("PIL.Image", "Image"): "pil",
    ("lakehouse.media.handles", "Image"): "image",
    ("lakehouse.media.handles", "Video"): "video",
    ("lakehouse.media.handles", "Audio"): "audio",
    ("lakehouse.media.handles", "Text"): "text",
    ("lakehouse.media.handles", "Blob"): "blob",
}


def kind_of(annotation: Any, parameter: str, *, batch: bool) -> InputKind:
    """Return how a parameter with this annotation is served.

    Raises
    ------
    InvalidArgumentError
        An Arrow array where one row is handed over, or one picture where many rows are.
    """
    annotation, optional = _without_none(annotation)
    unknown = annotation in (None, Any, object)
    if batch and (annotation is list or typing.get_origin(annotation) in (list, Sequence)):
        item, item_optional = _without_none(next(iter(typing.get_args(annotation)), None))
        return InputKind(_form(item), listed=True, takes_null=item_optional or item in (None, Any, object))
    if isinstance(annotation, type) and issubclass(annotation, pa.Array | pa.ChunkedArray):
        if not batch:
            raise InvalidArgumentError(f"{parameter!r} is a {annotation.__name__}: that needs batch=True")
        return InputKind("arrow", takes_null=True)
    form = _form(annotation)
    if not batch:
        return InputKind(form, takes_null=optional or unknown)
    if unknown:
        return InputKind("arrow", takes_null=True)
    if form == "numpy":
        return InputKind("numpy")
    name = getattr(annotation, "__name__", annotation)
    raise InvalidArgumentError(f"{parameter!r} is one {name}, and batch=True hands over many: list[{name}]")


def _form(annotation: Any) -> Form:
    origin = typing.get_origin(annotation) or annotation
    named = (getattr(origin, "__module__", ""), getattr(origin, "__name__", ""))
    return _BY_NAME.get(named) or (_PLAIN.get(origin, "value") if isinstance(origin, type) else "value")


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation, False
    members = [member for member in typing.get_args(annotation) if member is not type(None)]
    optional = len(members) < len(typing.get_args(annotation))
    return (members[0] if len(members) == 1 else _Unknown), optional


def parameter_annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations, evaluated one by one: imports under ``TYPE_CHECKING`` are not there when it runs."""
    function = inspect.unwrap(function)
    names = _Names(getattr(function, "__globals__", {}))
    evaluated = {}
    for parameter, annotation in getattr(function, "__annotations__", {}).items():
        evaluated[parameter] = _evaluate(annotation, names) if isinstance(annotation, str) else annotation
    return evaluated


def _evaluate(annotation: str, names: Mapping[str, Any]) -> Any:
    try:
        value = eval(annotation, {}, names)  # noqa: S307 - the function's own source, as typing.get_type_hints does
    except InvalidArgumentError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, it is not one of the forms known here
        return _Unknown | None if "None" in annotation or "Optional" in annotation else _Unknown
    if isinstance(value, types.ModuleType):
        raise _ambiguous(annotation)
    return value


class _Names(dict[str, Any]):
    """A module's names, and the usual ones for what is imported for type checkers only."""

    _USUAL: typing.ClassVar = {"np": "numpy", "pa": "pyarrow", "lh": "lakehouse", "Image": "PIL.Image", "PIL": "PIL"}

    def __missing__(self, name: str) -> Any:
        if name in ("Video", "Audio", "Text", "Blob"):
            raise _ambiguous(name)
        if name not in self._USUAL:
            raise KeyError(name)
        if name == "PIL":
            importlib.import_module("PIL.Image")
        return importlib.import_module(self._USUAL[name])


def _ambiguous(annotation: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"annotation {annotation!r} names nothing that is there when the function is declared; write "
        "PIL.Image.Image or lh.Video, or import the name outside `if TYPE_CHECKING`"
    )


def input_columns(name: str, parameters: Sequence[inspect.Parameter], inputs: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns handed to the parameters, in order.

    Raises
    ------
    InvalidArgumentError
        The parameters cannot be served with these columns.
    """
    positional = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidArgumentError(f"{name} takes *{parameter.name}; name each column it reads")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            positional.append(parameter)
        elif parameter.default is parameter.empty:
            raise InvalidArgumentError(f"{name}: {parameter.name!r} needs a default; columns come by position")
    required = [parameter.name for parameter in positional if parameter.default is parameter.empty]
    if inputs is None:
        inputs = required
    elif isinstance(inputs, str):
        raise InvalidArgumentError(f"inputs is a list of column names: inputs=[{inputs!r}]")
    if not required and not inputs:
        raise InvalidArgumentError(f"{name} reads no column: it has no parameter without a default")
    if not len(required) <= len(inputs) <= len(positional):
        takes = ", ".join(parameter.name for parameter in positional)
        raise InvalidArgumentError(f"{name} takes {takes}; inputs names {len(inputs)} columns")
    return tuple(inputs)


def json_arguments(target: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what a class is called with by name, refusing what JSON does not give back.

    Raises
    ------
    InvalidArgumentError
        The arguments do not fit the class, or are not JSON.
    """
    signature = inspect.signature(target)
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values()):
        raise InvalidArgumentError(f"{target.__qualname__} takes *args; name its arguments")
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArgumentError(f"{target.__qualname__}{signature}: {error}") from error
    arguments: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        starred = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        arguments |= value if starred else {name: value}
    try:
        read_back = json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError) as error:
        given = f"{target.__qualname__}({', '.join(arguments)})"
        raise InvalidArgumentError(f"{given}: arguments are kept as JSON, and {error}") from error
    if read_back != arguments:
        raise InvalidArgumentError(f"{target.__qualname__}: arguments are kept as JSON; {arguments} is not")
    return arguments
