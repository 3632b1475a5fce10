"""What every trial runs under, and what a reader must know of the machine to read its figures."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NUM_THREADS = 2

# Set before any import of the child process: each library reads its variable once, when it loads.
PINNED = {
    # Lance takes cores − 2, at least one: on two cores that halves it, for us and for plain pylance alike.
    "LANCE_CPU_THREADS": str(NUM_THREADS),
    "LANCE_IO_THREADS": "8",  # Lance's own default for a local disk; 1 hangs pylance 14
    "OMP_NUM_THREADS": str(NUM_THREADS),  # also the size of pyarrow's CPU pool
    "ARROW_IO_THREADS": "8",  # pyarrow's own default
    "OPENBLAS_NUM_THREADS": str(NUM_THREADS),
    "MKL_NUM_THREADS": str(NUM_THREADS),
    "PYTHONHASHSEED": "0",
}

_REPORTED_PACKAGES = ("pylance", "lancedb", "pyarrow", "duckdb", "numpy")


def child_environment() -> dict[str, str]:
    """Return this process's environment with the pinned variables on top."""
    return {**os.environ, **PINNED}


def host(data: Path) -> dict[str, str | int]:
    """Describe the machine: processor, cores, memory, kernel and the file system under `data`."""
    return {
        "cpu": _first_value(Path("/proc/cpuinfo"), "model name"),
        "cores": os.cpu_count() or 0,
        "memory_nbytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "file_system": _file_system(data),
    }


def versions() -> dict[str, str]:
    """Return the commit, and the versions of Python, SQLite and every installed library an arm uses."""
    import sqlite3

    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for package in _REPORTED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    described = subprocess.run(git, capture_output=True, text=True, check=False)
    found["commit"] = described.stdout.strip() or "unknown"
    return found


def load_average() -> list[float]:
    """Return the load averages over 1, 5 and 15 minutes."""
    return list(os.getloadavg())


def command_line() -> str:
    """Return the command that was typed, as a reader would type it again."""
    main = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {main.name}" if main else sys.argv[0]
    return " ".join([program, *sys.argv[1:]])


def _first_value(path: Path, key: str) -> str:
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _file_system(path: Path) -> str:
    device = path.stat().st_dev
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, source = line.partition(" - ")
        major, minor = fields.split()[2].split(":")
        if os.makedev(int(major), int(minor)) == device:
            return source.split()[0]
    return "unknown"
