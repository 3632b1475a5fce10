"""The one gate for packages that are extras."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lakehouse.errors import MissingDependencyError

if TYPE_CHECKING:
    from types import ModuleType

_EXTRA = {"av": "video", "torch": "torch", "ray": "ray", "pandas": "pandas", "prompt_toolkit": "shell"}


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Raises
    ------
    MissingDependencyError
        The package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        extra = _EXTRA[module.partition(".")[0]]
        raise MissingDependencyError(
            f"{purpose} needs {module.partition('.')[0]}; pip install 'lance-lakehouse[{extra}]'"
        ) from error
