"""Environments of the peers: each has one of its own, made once by pip."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.harness.trial import REPOSITORY

_FOLDER = REPOSITORY / "benchmarks" / "data" / "loader" / "environments"
_COMMON = ("torch==2.13.0", "pillow==13.0.0")  # as in constraints.txt: every arm decodes by the same library
_PACKAGES = {
    "webdataset": ("webdataset==1.0.2",),
    "litdata": ("litdata==0.2.76",),
    "datasets": ("datasets==5.0.1",),
    "grain": ("grain==0.2.18", "array_record==0.8.6"),
    "mosaicml": ("mosaicml-streaming==0.13.0",),
}
# mosaicml-streaming 0.13 imports two names of torchvision, whose wheel does not load beside the CPU build of torch 2.13
# ("operator torchvision::nms does not exist"). No arm uses them.
_STUB = {
    "__init__.py": "",
    "datasets.py": "class VisionDataset: ...\n",
    "transforms/__init__.py": "",
    "transforms/functional.py": "def to_tensor(picture): raise NotImplementedError\n",
}
_STUBBED = {"mosaicml"}


def interpreter(name: str | None) -> Path:
    """Return the Python of an environment, made if it is not there; None is the project's own.

    Raises
    ------
    subprocess.CalledProcessError
        pip could not install a package; what it said stands on standard error.
    """
    if name is None:
        return Path(sys.executable)
    wanted = hashlib.sha256(repr((_COMMON, _PACKAGES[name], name in _STUBBED and _STUB)).encode()).hexdigest()
    folder = _FOLDER / name
    mark = folder / "made-from"
    if not (mark.exists() and mark.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        _pip(folder, "install", *_COMMON, *_PACKAGES[name])
        if name in _STUBBED:
            _stub(folder)
        mark.write_text(wanted)  # last: what was killed half-way leaves none
    return folder / "bin" / "python"


def _pip(folder: Path, *words: str) -> None:
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", *words]
    subprocess.run(command, check=True)


def _stub(folder: Path) -> None:
    _pip(folder, "uninstall", "--yes", "torchvision")
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for name, text in _STUB.items():
        path = packages / "torchvision" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
