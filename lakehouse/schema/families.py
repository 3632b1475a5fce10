"""The schemas that are shipped: found by name, in an installed wheel or in a checkout."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import SchemaError, closest
from lakehouse.schema.model import Schema

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["load", "names"]


def _folder() -> Traversable:
    # A wheel carries the top-level folder inside the package (pyproject.toml, force-include); a checkout has
    # it beside the package.
    packed = resources.files("lakehouse") / "schemas"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "schemas"


def names() -> list[str]:
    """Return the names of the shipped families, sorted.

    Examples
    --------
    >>> from lakehouse.schema import families
    >>> families.names()
    ['documents', 'images', 'videos']
    """
    return sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml"))


def load(name_or_path: str | os.PathLike[str]) -> Schema:
    """Return a shipped family by name, or read a schema file.

    Parameters
    ----------
    name_or_path
        A `pathlib.Path`, or a string that ends in ``.toml`` or holds a slash, is a file; any other string
        is a family.

    Raises
    ------
    SchemaError
        There is no such family or file, or the file is no schema.

    Examples
    --------
    >>> from lakehouse.schema import families
    >>> families.load("images").key
    'id'
    """
    if not isinstance(name_or_path, str) or name_or_path.endswith(".toml") or os.sep in name_or_path:
        return Schema.from_toml(name_or_path)
    known = names()
    if name_or_path not in known:
        there = f"shipped are {', '.join(known)}; the name of a file ends in .toml"
        raise SchemaError(f"no schema family {name_or_path!r} ({there}){closest(name_or_path, known)}")
    text = (_folder() / f"{name_or_path}.toml").read_text("utf-8")
    return Schema.parse(text, source=f"schemas/{name_or_path}.toml")
