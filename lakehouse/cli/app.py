"""The program: its verbs, its options, and how it ends."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import lakehouse as lh
from lakehouse.cli import care, demo, features, queries, schemas, sql, tables, versions
from lakehouse.cli.arguments import STOPPED
from lakehouse.cli.output import one_line
from lakehouse.errors import LakehouseError

__all__ = ["app", "main"]


class _Program(TyperGroup):
    """Ends with one line, not a traceback, where the library says what is wrong."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (LakehouseError, OSError) as error:  # OSError: where --save or --out cannot be written
            if ctx.params["debug"] or (isinstance(error, OSError) and error.errno == errno.EPIPE):
                raise
            print(f"lakehouse: {one_line(error)}", file=sys.stderr)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            print("lakehouse: stopped", file=sys.stderr)
            raise typer.Exit(STOPPED) from error


app = typer.Typer(
    cls=_Program,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Lance tables of images, video, audio and text: feature columns, SQL, search, and no server.\n\n"
    "A target is LAKE, LAKE/TABLE or LAKE/TABLE@VERSION (a number, a tag or a branch); LAKE is a folder or a URL.",
    epilog="Start with: lakehouse demo",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(lh.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001 - dealt with by its callback
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lakehouse").setLevel(logging.DEBUG if debug else logging.INFO)


for _room in (demo, tables, sql, queries, schemas, features, versions, care):
    _room.register(app)


def main() -> None:
    """Run the command line."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the shell: `<&-`
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a table's words on a terminal that lacks their letters
            stream.reconfigure(errors="backslashreplace")
    app()
