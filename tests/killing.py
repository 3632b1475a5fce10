"""Run a piece of code in a process of its own and SIGKILL it at a named moment.

The code calls ``moment("name")`` where it may be killed; the child stops there and waits, so nothing depends on time.
"""

import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager

_PREAMBLE = """
import sys

def moment(name):
    if name == sys.argv[1]:
        print("reached", flush=True)
        sys.stdin.readline()

def before(owner, attribute, name):
    "Have a moment before each call of a function; the n-th call is name.n."
    function, calls = getattr(owner, attribute), []
    def stopping(*args, **kwargs):
        calls.append(1)
        moment(f"{name}.{len(calls)}")
        return function(*args, **kwargs)
    setattr(owner, attribute, stopping)
"""


def run_and_kill(code, at, folder):
    """Run `code` in `folder` and kill it at the moment `at`; fail if it ends before."""
    with _running(code, at, folder) as child:
        child.kill()
        child.wait()


@contextmanager
def stopped(code, at, folder):
    """Run `code` in `folder` and SIGSTOP it at the moment `at`; give a call that has it go on and returns how it ended.

    The call returns the exit status and what it wrote to standard error.
    """

    def go_on():
        child.send_signal(signal.SIGCONT)
        errors = child.communicate("go on\n", timeout=240)[1]
        return child.returncode, errors

    with _running(code, at, folder) as child:
        child.send_signal(signal.SIGSTOP)
        try:
            yield go_on
        finally:
            child.kill()


@contextmanager
def _running(code, at, folder):
    """Give the process of `code` once it has reached the moment `at`."""
    script = folder / "killed.py"
    script.write_text(_PREAMBLE + textwrap.dedent(code))
    with subprocess.Popen(
        [sys.executable, str(script), at],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        text=True,
    ) as child:
        for line in child.stdout:
            if line.strip() == "reached":
                yield child
                return
        raise AssertionError(f"ended before {at!r}: {child.stderr.read()[-2000:]}")
