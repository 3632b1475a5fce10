"""A project of two modules whose code is written anew, so that every value says which code computed it.

A function tells of each of its calls by ``sys.audit("team.call")``, which is where others can come in between.
"""

import importlib
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from tests.interrupted import ROOT

FEATURES = """
import sys

import pyarrow as pa

import lakehouse as lh
import team_shared


def beside(x):
    return {beside} * 100


def made(constant):
    @lh.udf(pa.int64())
    def f(x: int) -> int:
        sys.audit("team.call")
        return x * 1_000_000 + {body} + beside(x) + team_shared.elsewhere(x) + constant * 1_000_000_000

    return f


f = made({constant})


@lh.udf(pa.int64())
class Argued:
    def __init__(self, argument):
        self.argument = argument

    def __call__(self, x: int) -> int:
        sys.audit("team.call")
        return x * 1_000_000 + self.argument


c = Argued({argument})
"""

SHARED = """
def elsewhere(x):
    return further(x) * 10_000


def further(x):
    return {elsewhere}
"""

PARTS = ("body", "beside", "elsewhere", "constant", "argument")


@dataclass(frozen=True)
class Code:
    """What stands in the modules, each a number below 100."""

    body: int = 1
    beside: int = 1
    elsewhere: int = 1
    constant: int = 1
    argument: int = 1

    def changed(self, part):
        """Return the code with one part changed."""
        return replace(self, **{part: getattr(self, part) + 1})

    def value(self, column, x):
        """Return what the function of a column gives for `x`."""
        if column == "c":
            return x * 1_000_000 + self.argument
        rest = self.body + self.beside * 100 + self.elsewhere * 10_000
        return x * 1_000_000 + rest + self.constant * 1_000_000_000

    def same_for(self, column, other):
        """Whether a column's function is the same."""
        return self.value(column, 0) == other.value(column, 0)

    def write(self, folder):
        """Write the modules."""
        for name, text in (("team_features", FEATURES), ("team_shared", SHARED)):
            filled = text
            for part in PARTS:
                filled = filled.replace(f"{{{part}}}", str(getattr(self, part)))
            (folder / f"{name}.py").write_text(filled)

    def load(self, folder):
        """Write the modules and import them as a process does that has just started; return the functions by column."""
        self.write(folder)
        importlib.invalidate_caches()
        for name in ("team_features", "team_shared"):
            sys.modules.pop(name, None)
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode  # two versions in one second look the same
        try:
            module = importlib.import_module("team_features")
        finally:
            sys.dont_write_bytecode = before
            sys.path.remove(str(folder))
        return {"f": module.f, "c": module.c}


class _Calls:
    """What happens at calls; a hook of the interpreter stays for good, so there is one for all tests."""

    def __init__(self):
        self.then = None
        self.seen = 0
        sys.addaudithook(self._hear)

    def _hear(self, event, args):
        if event == "team.call" and self.then is not None:
            self.seen += 1
            number, action = self.then
            if self.seen == number:
                self.then = None
                action()

    def at(self, number, action):
        """Do something at the call of this number, once."""
        self.then, self.seen = (number, action), 0


CALLS = _Calls()

_FILLING = """
import os, sys
sys.dont_write_bytecode = True
import lakehouse as lh
from lakehouse.features.jobs import grouping
import team_features
grouping.is_due = lambda *_: True
calls = 0
def hear(event, args):
    global calls
    if event == "team.call":
        calls += 1
        if calls == {number}:
            os.kill(os.getpid(), 9)
sys.addaudithook(hear)
lh.connect({lake!r}).open_table("t").backfill({column!r}, udf=team_features.{column}, progress=False)
"""


def fill_and_kill(folder, lake, column, number):
    """Fill a column with the code that is in `folder`, committing each fragment, and SIGKILL it at a call.

    Returns
    -------
    bool
        Whether it came to that call.
    """
    script = _FILLING.format(number=number, lake=str(lake), column=column)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(folder))]),
        "PYTHONDONTWRITEBYTECODE": "1",  # two versions in one second look the same
    }
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9
