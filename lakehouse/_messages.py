"""Messages of Lance, DuckDB and object stores: what they mean, and how they may be shown.

Lance 14.0.2 gives most errors as a bare `OSError` or `ValueError`, by operation, so the text decides;
`tests/test_errors.py` provokes each for real.
"""

from __future__ import annotations

import re
from enum import Enum


class Outcome(Enum):
    """What a failed commit means for the one who tried it."""

    RETRYABLE = "retryable"  # somebody was first; re-read and try again
    INCOMPATIBLE = "incompatible"  # the ground is gone: plan again or stop
    GONE = "gone"  # the version read from was cleaned up: plan again
    UNKNOWN = "unknown"  # it may have landed; look before doing anything


_RETRYABLE = re.compile(
    r"retryable commit conflict|too ?many concurrent writers|too ?much ?write ?contention|preempted by",
    re.IGNORECASE,
)
_INCOMPATIBLE = re.compile(r"[Ii]ncompatible transaction|Field with id -?\d+ does not exist")
_GONE = re.compile(r"_versions/\d+\.manifest.{0,80}not found|Not found:.*\.manifest", re.DOTALL)


def classify(error: BaseException) -> Outcome:
    """Tell what a failed commit means, by type and by text."""
    retryable = getattr(error, "retryable", None)
    text = str(error)
    if retryable is True or _RETRYABLE.search(text):
        return Outcome.RETRYABLE
    if retryable is False or _INCOMPATIBLE.search(text):
        return Outcome.INCOMPATIBLE
    if _GONE.search(text):
        return Outcome.GONE
    return Outcome.UNKNOWN


# Lance appends the build machine's source position to its messages.
# These patterns begin where a run of their characters does: tried at each of them, a pasted megabyte takes hours.
_BUILD_PATH = re.compile(r"(?:,|(?<!\s))\s*(?:location: )?(?<![\w.+/-])[\w.+-]*(?:/[\w.+-]+)+\.rs:\d+(?::\d+)?")
_USERINFO = re.compile(r"(?<=://)[^/\s]+@")
_SECRET = re.compile(
    r"""((?<![\w-])(?=[\w-]*?(?:secret|passw(?:or)?d|access_?key|account_?key|credential|signature|authorization"""
    r"""|token(?!s)|\bsas\b|\bsig\b))[\w-]++["']?\s*[:=]\s*)"""
    r"""("[^"]*"|'[^']*'|(?:Bearer |Basic )?[^\s,;&"')}]+)""",
    re.IGNORECASE,
)


def clean(message: str) -> str:
    """Drop build-machine paths and credentials from a message."""
    message = _BUILD_PATH.sub("", message)
    message = _USERINFO.sub("***@", message)
    return _SECRET.sub(r"\1***", message).strip()


# What Lance, DataFusion and Arrow put around what happened; a schema printed after it; an S3 server's reply.
_WRAPPERS = re.compile(
    r"^(?:External error: |LanceError\(\w+\): |Invalid user input: |Query Execution error: |Arrow error: "
    r"|C Data interface error: |called `Result::unwrap\(\)` on an `Err` value: )+"
)
_SCHEMA_DUMP = re.compile(r":?(?<!\s)\s+Schema \{.*", re.DOTALL)
_LONGEST = 400  # characters; DataFusion prints whole plans
_REPLY = re.compile(r"<\?xml.*?<Code>(.*?)</Code>.*?<Message>(.*?)</Message>.*?</Error>", re.DOTALL)


def brief(text: str) -> str:
    """Return the line that says what happened."""
    text = _SCHEMA_DUMP.sub("", _WRAPPERS.sub("", text))
    return _REPLY.sub(r"\1, \2", text).partition("\n")[0][:_LONGEST]


def carried(text: str) -> tuple[str, str] | None:
    """Return class and message of what a Python iterator raised inside an Arrow stream.

    Only its traceback comes through: frames are indented, what follows the last of them is the error.
    """
    _, marker, trace = text.rpartition("Traceback (most recent call last):\n")
    if not marker:
        return None
    raised = "\n".join(line for line in trace.splitlines() if not line.startswith("  ")).strip()
    name, _, message = raised.partition(": ")
    return name, message


def is_panic(error: BaseException) -> bool:
    """Whether a Rust thread gave up; pyo3 raises that as a `BaseException` of its own."""
    return type(error).__name__ == "PanicException"
