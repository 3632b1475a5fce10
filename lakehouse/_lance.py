"""The one place where Lance is imported: thread counts first, and never after a fork."""

from __future__ import annotations

import multiprocessing
import os

from lakehouse.errors import UnsupportedTableError

# Lance 14 sizes its compute pool as cores - 2 and hangs on writes with one I/O thread; it logs each
# DataReplacement as "not stable yet", which the version range and the conflict tests answer.
_DEFAULTS = {
    "LANCE_CPU_THREADS": str(os.cpu_count() or 1),
    "LANCE_IO_THREADS": str(max(8, 2 * (os.cpu_count() or 1))),
    "LANCE_LOG": "error",
}
# Worker processes share the cores, and read: 11 threads each instead of 39 (2 cores, 14.0.2).
_OF_WORKERS = {"LANCE_CPU_THREADS": "1", "LANCE_IO_THREADS": "2"}
_IS_WORKER = multiprocessing.parent_process() is not None
for _name, _value in _DEFAULTS.items():
    if _IS_WORKER and os.environ.get(_name) == _value:  # inherited: nobody asked for it
        os.environ[_name] = _OF_WORKERS.get(_name, _value)
    os.environ.setdefault(_name, _value)

import lance  # noqa: E402 - after its environment
import lance.optimize  # noqa: E402 - not imported by the package itself

# pylance 14.0.2 reads the transaction of a compaction that remapped an index with a TypeError: its Rust side gives two
# of the five fields. Harmless once the others have a default, and once they are given.
if len(lance.LanceOperation.RewrittenIndex.__init__.__defaults__ or ()) < 3:
    lance.LanceOperation.RewrittenIndex.__init__.__defaults__ = (None, None, None)

_IMPORTED_IN = os.getpid()

TESTED = ("14.0.2",)
"""Releases whose conflict rules, who conflicts with whom, are those the tests expect, cell by cell."""
_UNTESTED = "LAKEHOUSE_UNTESTED_PYLANCE"

__all__ = ["TESTED", "check_process", "check_tested", "lance"]


def check_process() -> None:
    """Refuse to work in a forked child, where Lance's threads are missing and it crashes or hangs.

    Raises
    ------
    UnsupportedTableError
        This process was forked after Lance was imported.
    """
    if os.getpid() != _IMPORTED_IN:
        raise UnsupportedTableError(
            "this process was forked after Lance was loaded, and Lance does not survive a fork; start workers "
            'with multiprocessing.get_context("spawn") or "forkserver" (DataLoader: multiprocessing_context="spawn")'
        )


def check_tested() -> None:
    """Refuse to write features with a Lance whose conflict rules nobody has checked.

    Raises
    ------
    UnsupportedTableError
        Another release, and the environment does not say that it may be used.
    """
    if lance.__version__ not in TESTED and os.environ.get(_UNTESTED) != "1":
        raise UnsupportedTableError(
            f"feature columns stand on Lance's conflict rules, which were tested with pylance {', '.join(TESTED)}; "
            f"{lance.__version__} is installed. Install the tested one (pip install pylance=={TESTED[-1]}), or try it "
            f"at your own risk with {_UNTESTED}=1"
        )
