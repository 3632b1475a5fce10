"""Numbers with their units, as people read them."""

from __future__ import annotations

__all__ = ["format_nbytes"]

_UNITS = ("kB", "MB", "GB", "TB")


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
