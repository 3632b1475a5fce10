"""The page docs/cli.md, written from the verbs' own help: ``python -m lakehouse.cli.reference > docs/cli.md``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from lakehouse.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["reference"]

_INTRO = """\
# Command line

`lakehouse VERB LAKE[/TABLE][@VERSION] …`, a verb a call. `LAKE` is a folder or a URL (`s3://bucket/lake`), `@VERSION` a
number, a tag or a branch; a table's name alone means a lake in the current folder.

Results go to standard output, bars and errors to standard error. `--json` prints one JSON document (a script of SQL one
a statement), in which media are `{"nbytes": …}` and NaN and infinity are null. Exit codes: 0 done, 1 failed, 2 wrong
usage, 3 the schema file and the table differ, 130 stopped by Ctrl-C. `lakehouse --debug VERB …` shows where an error
came from.

With `--json` the verbs that take long (`compact`, `feature backfill`, `feature add-from`) print JSON lines instead: one
when a job begins, two a second at most while it runs, one when it ends or is stopped, and the result as the last one.
`rate` is rows a second without those that were resumed; `total` and `eta_s` are null where nobody knows.

```text
{"event": "progress", "job": "filling phash", "unit": "rows", "rows": 1200, "total": 5000,
 "rate": 310.5, "failed": 2, "resumed": 400, "eta_s": 12.2}
{"event": "result", "version": 7, "num_rows": 5000, "num_filled": 4998, "num_failed": 2, …}
```
"""


def reference() -> str:
    """Return the page."""
    return _INTRO + "".join(_section(name, command) for name, command in _verbs(typer.main.get_command(app), ""))


def _verbs(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join(["lakehouse", name, *(p.metavar for p in arguments), "[OPTIONS]"])
    lines = [f"- `{p.metavar}`: {p.help}" for p in arguments] + [_option(p) for p in options]
    example = command.epilog.removeprefix("Example: ")
    return f"\n## {name}\n\n{command.help}\n\n`{usage}`\n\n" + "\n".join(lines) + f"\n\n```text\n{example}\n```\n"


def _option(option: Any) -> str:
    spelled = ", ".join(option.opts) + (f" {option.metavar}" if option.metavar else "")
    shown = option.default not in (None, False) and option.show_default
    return f"- `{spelled}`: {option.help}" + (f" Default: {option.default}." if shown else "")


if __name__ == "__main__":
    print(reference(), end="")
