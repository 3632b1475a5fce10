"""SQL one statement after the other: on a terminal with history and completion, or from a script."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from lakehouse._optional import require
from lakehouse.cli.answers import write
from lakehouse.cli.formats import WRITERS
from lakehouse.cli.output import one_line
from lakehouse.cli.statements import GOODBYES, says_something, statements
from lakehouse.errors import InvalidArgumentError, LakehouseError, closest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.cli.formats import Format
    from lakehouse.lake import Lake

__all__ = ["Session", "run_script", "run_shell"]

_HELP = """\
SQL ends with ';' and may take several lines; nothing is written to the lake.
.tables          the tables
.schema TABLE    its columns
.explain SQL     what is read for a statement, and how
.format FORMAT   table, csv, json or markdown
.limit N         how many rows are shown at most; none: the format's default
.quit            leave, as Ctrl-D does; Ctrl-C stops a statement"""


class Session:
    """What a shell or a script remembers between statements.

    Parameters
    ----------
    lake
        The lake.
    form
        How rows are written.
    limit
        How many at most; None means the format's default.
    """

    def __init__(self, lake: Lake, form: Format, limit: int | None) -> None:
        self.lake = lake
        self._form: Format = form
        self._limit = limit
        self._commands: dict[str, Callable[[str], None]] = {
            "explain": self._explain,
            "format": self._set_format,
            "help": lambda _: print(_HELP),
            "limit": self._set_limit,
            "schema": self._show_columns,
            "tables": lambda _: print("\n".join(lake.table_names()) or "no tables"),
        }

    @property
    def commands(self) -> list[str]:
        """What begins with a dot."""
        return sorted(f".{name}" for name in (*self._commands, "quit"))

    def answer(self, statement: str) -> None:
        """Answer one statement, or carry out one command."""
        if not statement.startswith("."):
            write(self.lake.sql(statement), self._form, limit=self._limit)
            return
        name, _, rest = statement[1:].rstrip(";").partition(" ")
        if name not in self._commands:
            raise InvalidArgumentError(
                f"no command .{name}; there are {', '.join(self.commands)}{closest(f'.{name}', self.commands)}"
            )
        self._commands[name](rest.strip())

    def _explain(self, statement: str) -> None:
        if not statement:
            raise InvalidArgumentError("which statement? write .explain SELECT …")
        print(self.lake.sql(statement).explain().rstrip())

    def _show_columns(self, table: str) -> None:
        if not table:
            raise InvalidArgumentError("of which table? write .schema TABLE")
        name = table.strip('"').replace('"', '""')
        write(self.lake.sql(f'SELECT column_name, column_type FROM (DESCRIBE "{name}")'), self._form)  # noqa: S608 - quoted

    def _set_format(self, form: str) -> None:
        if form != "table" and form not in WRITERS:
            raise InvalidArgumentError(f"no format {form!r}; there are table, {', '.join(WRITERS)}")
        self._form = form  # type: ignore[assignment]  # one of them

    def _set_limit(self, limit: str) -> None:
        if limit and not (limit.isdigit() and int(limit)):
            raise InvalidArgumentError(f"{limit!r} is no number of rows; write .limit 100, or .limit for the default")
        self._limit = int(limit) if limit else None


def run_script(session: Session, text: str) -> None:
    """Answer what a script holds, up to the first mistake; commands have a line of their own."""
    waiting = ""
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith(".") and not says_something(waiting):
            if line.strip() in GOODBYES:
                return
            session.answer(line.strip())
            continue
        parted, waiting = statements(waiting + line)
        for statement in parted:
            session.answer(statement)
    if says_something(waiting):
        session.answer(waiting.strip())


def run_shell(session: Session) -> None:
    """Ask for statements and answer them until Ctrl-D."""
    require("prompt_toolkit", "the SQL shell")
    from lakehouse.cli.prompt import prompt_of

    print(f"{session.lake.uri}: {', '.join(session.lake.table_names()) or 'no tables'}; .help says what there is")
    prompt = prompt_of(session.lake, session.commands)
    while True:
        try:
            text = prompt().strip()
        except KeyboardInterrupt:
            continue  # what was typed is dropped
        except EOFError:
            return
        if text.lower().rstrip(";") in GOODBYES:
            return
        for statement in [text] if text.startswith(".") else statements(text)[0]:
            if not _answered(session, statement):
                break


def _answered(session: Session, statement: str) -> bool:
    start = time.monotonic()
    try:
        session.answer(statement)
    except (LakehouseError, OSError) as error:
        _say(one_line(error))
        return False
    except KeyboardInterrupt:
        _say("stopped")
        return False
    if not statement.startswith("."):
        _say(_told(time.monotonic() - start))
    return True


def _told(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _say(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
