"""Numbers with their units, as people read them."""

from __future__ import annotations

__all__ = ["count", "format_interval", "format_nbytes"]

_UNITS = ("kB", "MB", "GB", "TB")


def count(n: int, noun: str) -> str:
    """Write a number with its noun.

    Examples
    --------
    >>> count(1, "row"), count(1204, "row"), count(2, "index"), count(3, "batch")
    ('1 row', '1,204 rows', '2 indexes', '3 batches')
    """
    plural = noun + ("es" if noun.endswith(("x", "ch")) else "s")
    return f"{n:,} {noun if n == 1 else plural}"


def format_nbytes(nbytes: int) -> str:
    """Write a number of bytes in three digits and a decimal unit.

    Examples
    --------
    >>> format_nbytes(999), format_nbytes(12_345), format_nbytes(3_000_000_000)
    ('999 B', '12.3 kB', '3.00 GB')
    """
    if abs(nbytes) < 1000:
        return f"{nbytes} B"
    size = float(nbytes)
    for unit in _UNITS:
        size /= 1000
        if abs(size) < 999.5 or unit == _UNITS[-1]:
            break
    digits = 2 if abs(size) < 9.995 else 1 if abs(size) < 99.95 else 0
    return f"{size:,.{digits}f} {unit}"


def format_interval(months: int, days: int, nanoseconds: int) -> str:
    """Write an interval of SQL as DuckDB does, which reads it back.

    Examples
    --------
    >>> format_interval(14, 1, 1_500_000_000), format_interval(0, 0, 0)
    ('1 year 2 months 1 day 00:00:01.5', '00:00:00')
    """
    years = abs(months) // 12 * (1 if months > 0 else -1)
    counts = {"year": years, "month": months - 12 * years, "day": days}
    parts = [f"{n} {unit}{'' if abs(n) == 1 else 's'}" for unit, n in counts.items() if n]
    if nanoseconds or not parts:
        seconds, rest = divmod(abs(nanoseconds), 10**9)
        fraction = f".{rest:09}".rstrip("0") if rest else ""
        sign = "-" if nanoseconds < 0 else ""
        parts.append(f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}")
    return " ".join(parts)
