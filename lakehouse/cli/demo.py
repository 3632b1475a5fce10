"""The verb demo."""

from __future__ import annotations

from itertools import count
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from lakehouse.cli.arguments import AsJson, verb
from lakehouse.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from lakehouse.demo import Step

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    verb(app, "demo my-demo")(demo)


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="A new folder; default: lakehouse-demo.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a small lake of pictures, videos and texts and do the main job on it, in a minute."""
    from lakehouse.demo import run_demo

    out = Output(as_json)
    result = run_demo(folder) if as_json else run_demo(folder, _teller(out.console))
    lake = result.lake
    out.show(
        result,
        f"\nAll of it took {result.seconds:.0f} s. Look around:",
        f"  lakehouse info {lake}/pictures",
        f"  lakehouse feature ls {lake}/pictures",
        f'  lakehouse sql {lake} "FROM pictures SELECT label, avg(brightness) GROUP BY 1"',
    )


def _teller(console: Console) -> Callable[[Step], None]:
    """Print steps with their numbers, code set apart from what came out."""
    numbers = count(1)

    def tell(step: Step) -> None:
        console.print(Text(f"\n{next(numbers)}. {step.title}", style="bold"))
        for line in step.code.splitlines():
            console.print(Text(f"   {line}", style="cyan"), soft_wrap=True)
        for line in step.told:
            console.print(Text(f"   → {line}"), soft_wrap=True)

    return tell
