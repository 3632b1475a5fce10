"""Run a piece of code in a process of its own and SIGKILL it at a named moment.

The code calls ``moment("name")`` where it may be killed; the child stops there and waits, so nothing depends on time.
"""

import subprocess
import sys
import textwrap

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
                child.kill()
                child.wait()
                return
        raise AssertionError(f"ended before {at!r}: {child.stderr.read()[-2000:]}")
