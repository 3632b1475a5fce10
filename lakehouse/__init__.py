"""A folder or a bucket of Lance tables as a multimodal data lake.

Public names are loaded when they are first used: importing this package loads neither Lance nor DuckDB nor PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse import errors
    from lakehouse.features.udf import udf
    from lakehouse.lake import Lake, connect
    from lakehouse.schema.model import Schema
    from lakehouse.table import Table

_HOMES = {
    "Lake": "lakehouse.lake",
    "Schema": "lakehouse.schema.model",
    "Table": "lakehouse.table",
    "connect": "lakehouse.lake",
    "udf": "lakehouse.features.udf",
}

__all__ = ["Lake", "Schema", "Table", "connect", "errors", "udf"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("lakehouse.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'lakehouse' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
