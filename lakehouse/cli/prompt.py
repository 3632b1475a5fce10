"""The line that is typed: history, colours and completion, by prompt_toolkit."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import duckdb
from platformdirs import user_state_path
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion, ThreadedCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.lexers import PygmentsLexer
from pygments.lexers.sql import SqlLexer  # type: ignore[import-untyped]

from lakehouse.cli.statements import is_whole
from lakehouse.errors import LakehouseError
from lakehouse.sql.functions import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History

    from lakehouse.lake import Lake

__all__ = ["prompt_of"]

_WORD = re.compile(r'"[^"]*$|[\w.]*$')
_TABLE_NEXT = re.compile(r'(?:\b(?:from|join|describe|summarize|show)|\.schema)\s+("[^"]*|[\w.]*)$', re.IGNORECASE)


def prompt_of(lake: Lake, commands: list[str]) -> Callable[[], str]:
    """Return what asks for one entry; names of the lake and commands are completed."""
    asking: PromptSession[str] = PromptSession(
        "lake> ",
        history=_history(),
        lexer=PygmentsLexer(SqlLexer),
        completer=ThreadedCompleter(_Names(lake, commands)),
        complete_while_typing=False,
        multiline=Condition(lambda: not is_whole(asking.default_buffer.text)),
        prompt_continuation="  ... ",
        enable_open_in_editor=True,
    )
    return asking.prompt


def _history() -> History:
    path = user_state_path("lakehouse", appauthor=False) / "sql_history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # statements hold values
    except OSError as error:
        print(f"lakehouse: no history is kept: {error}", file=sys.stderr)
        return InMemoryHistory()
    return FileHistory(str(path))


class _Names(Completer):
    """Completes commands, tables, columns, functions and SQL's words.

    Parameters
    ----------
    lake
        Whose tables and columns.
    commands
        What begins with a dot.
    """

    def __init__(self, lake: Lake, commands: list[str]) -> None:
        self._lake = lake
        self._commands = commands
        with duckdb.connect() as known:
            words = known.execute("SELECT upper(keyword_name) FROM duckdb_keywords()").fetchall()
            functions = known.execute("SELECT function_name FROM duckdb_functions()").fetchall()
        names = {name for (name,) in functions if name.isidentifier()} | FUNCTIONS.keys()
        self._words = sorted({word for (word,) in words}) + sorted(names)
        self._columns: dict[str, list[str]] = {}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield what the word before the cursor may become."""
        del complete_event
        text = document.text_before_cursor
        found = _WORD.search(text)
        word = found[0] if found else ""
        for name in self._candidates(text, document.text):
            if name.casefold().startswith(word.casefold()) or name.casefold().startswith(f'"{word}'.casefold()):
                yield Completion(name, -len(word))

    def _candidates(self, before: str, text: str) -> list[str]:
        try:
            tables = self._lake.table_names()
            if before.lstrip().startswith(".") and " " not in before.strip():
                return self._commands
            if _TABLE_NEXT.search(before):
                return [_quoted(name) for name in tables]
            named = [name for name in tables if name.casefold() in text.casefold()]
            columns = {_quoted(column) for name in named or tables[:20] for column in self._columns_of(name)}
        except LakehouseError:  # nothing to complete with; the statement itself will tell
            return self._words
        return sorted(columns) + [_quoted(name) for name in tables] + self._words

    def _columns_of(self, table: str) -> list[str]:
        if table not in self._columns:
            self._columns[table] = list(self._lake.open_table(table).schema.names)
        return self._columns[table]


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[a-z_]\w*", name, re.IGNORECASE) else '"' + name.replace('"', '""') + '"'
