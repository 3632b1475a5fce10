"""Where one statement ends and the next begins."""

from __future__ import annotations

__all__ = ["GOODBYES", "is_whole", "says_something", "statements"]

GOODBYES = ("exit", "quit", ".exit", ".quit")  # with and without the dot: people come from other shells


def statements(text: str) -> tuple[list[str], str]:
    """Part text at its semicolons, not at those in strings and comments.

    Returns
    -------
    tuple
        The statements, and what follows the last semicolon.

    Examples
    --------
    >>> statements("SELECT ';'; FROM t -- all; of it")
    (["SELECT ';'"], ' FROM t -- all; of it')
    """
    import duckdb

    encoded = text.encode()  # DuckDB counts bytes
    start, parted = 0, []
    for place, _ in duckdb.tokenize(text):
        if encoded[place : place + 1] == b";":
            parted.append(encoded[start:place].decode().strip())
            start = place + 1
    return [each for each in parted if each], encoded[start:].decode()


def is_whole(text: str) -> bool:
    """Whether what is typed can be answered: a command, or statements up to a semicolon.

    Examples
    --------
    >>> is_whole("SELECT 1"), is_whole("SELECT 1;"), is_whole("SELECT ';"), is_whole(".tables"), is_whole("")
    (False, True, False, True, True)
    """
    stripped = text.strip()
    if not stripped or stripped.startswith(".") or stripped.lower() in GOODBYES:
        return True
    parted, rest = statements(text)
    return bool(parted) and not says_something(rest)


def says_something(text: str) -> bool:
    """Whether text is more than comments and space."""
    import duckdb

    return any(kind != duckdb.token_type.comment for _, kind in duckdb.tokenize(text))
