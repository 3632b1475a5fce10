"""Verbs about upkeep: compact."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from lakehouse.cli.arguments import AsEvents, WrittenTable, open_newest, verb
from lakehouse.cli.output import Output, bytes_told

if TYPE_CHECKING:
    import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "compact lake/pets")(compact)


def compact(target: WrittenTable, as_json: AsEvents = False) -> None:
    """Put small fragments together and take out deleted rows; fragments that somebody works on are left alone."""
    out = Output(as_json, streams=True)
    with out.following():
        result = open_newest(target).compact()
    out.show(asdict(result), f"{result}; {bytes_told(result.nbytes_written, result.nbytes_untouched)}")
