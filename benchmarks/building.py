"""Data sets are built once, and again when the code that builds them has changed."""

from __future__ import annotations

import hashlib
import inspect
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import media
from benchmarks.harness.trial import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Arm


def built_once(folder: Path, build: Callable[[Path], None], sources: Sequence[Path]) -> Path:
    """Return `folder`, first calling `build` on an empty one unless an earlier run did so from the same sources."""
    fingerprint = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    mark = folder.with_name(folder.name + ".built-from")
    if not (folder.exists() and mark.exists() and mark.read_text() == fingerprint):
        mark.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build(folder)
        mark.write_text(fingerprint)  # last: a build that was killed leaves none
    return folder


def sources_of(kind: type, arm: Arm) -> list[Path]:
    """Return the files that decide what an arm builds; for ours that is the whole library."""
    own = [Path(media.__file__), Path(inspect.getfile(kind))]
    return own + (sorted((REPOSITORY / "lakehouse").rglob("*.py")) if arm.role == "ours" else [])
