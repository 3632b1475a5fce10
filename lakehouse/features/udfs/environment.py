"""What a function ran with: the installed packages its module uses, and the commit of its project."""

from __future__ import annotations

import inspect
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lakehouse.features.udfs.codehash import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

_ALWAYS = ("lance-lakehouse", "pylance", "pyarrow")


def packages(target: Any | None) -> dict[str, str]:
    """Return the versions of Python, of what this library stands on, and of what a function's module imports.

    Parameters
    ----------
    target
        The user's function or class; None for an SQL expression.

    Returns
    -------
    dict
        Versions by distribution; by module, ``PIL`` say, where the distribution is called otherwise and the module
        tells its version itself.
    """
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    found |= {name: version for name in _ALWAYS if (version := _installed(name))}
    for top in sorted(set(_imported(target))):
        version = _installed(top) or getattr(sys.modules[top], "__version__", None)
        if version:
            found[top] = str(version)
        else:
            found |= {name: metadata.version(name) for name in _by_module().get(top, ())}
    return found


def git_commit(target: Any | None) -> str | None:
    """Return the commit checked out where a function is defined; None if it is in no repository.

    The files are read, git is not run. Whether the function was edited since is not in them: the code hash tells.
    """
    file = getattr(sys.modules.get(target.__module__), "__file__", None) if target is not None else None
    if target is None or (file is None and target.__module__ != "__main__"):
        return None
    start = Path(file).resolve().parent if file else Path.cwd()  # a notebook lies where it runs
    for folder in (start, *start.parents):
        if (folder / ".git").exists():
            return _head(folder / ".git")
    return None


def _imported(target: Any | None) -> Iterator[str]:
    """Yield the top-level names of installed modules that something in a function's module comes from."""
    if target is None:
        return
    module = sys.modules.get(target.__module__)
    seen = vars(module) if module else getattr(inspect.unwrap(target), "__globals__", {})
    for value in list(seen.values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        top = name.partition(".")[0] if isinstance(name, str) else ""
        file = getattr(sys.modules.get(top), "__file__", None)
        if top not in sys.stdlib_module_names and file and is_installed(file):
            yield top


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # a checkout, or a module of another name
        return None


@cache
def _by_module() -> dict[str, list[str]]:
    """Ask for it last: it reads the list of files of everything installed, which takes 0.4 s."""
    return dict(metadata.packages_distributions())


def _head(git: Path) -> str | None:
    """Follow HEAD to a commit, in a worktree too (gitrepository-layout(5))."""
    try:
        if git.is_file():
            git = (git.parent / git.read_text().partition(":")[2].strip()).resolve()
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        ref = head.partition(":")[2].strip()
        for folder in (git, common):
            if (folder / ref).is_file():
                return (folder / ref).read_text().strip()
        packed = (common / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)
    except OSError:  # nothing committed yet, or not ours to read
        return None
