"""Conditions on one column in Lance's SQL, that mean what they mean in DuckDB.

A value that the column's type cannot hold (half a second in a column of seconds, 0.1 in one of float32) is replaced by
its neighbours in the column. What is written is true for every row for which the condition is; if it is true for no
other, it is `Part.exact`.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import types as pt

from lakehouse.where import literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "NEGATED",
    "NEVER",
    "Part",
    "all_of",
    "any_of",
    "compared",
    "is_comparable",
    "is_null",
    "listed",
    "value_type",
]

NEGATED = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_DOUBLE_DIGITS = 15  # so many a number of double precision always holds
_MOST_VALUES = 10_000  # of an IN list; longer ones are cheaper to compare than to look up one by one


@dataclass(frozen=True)
class Part:
    """A condition in Lance's SQL.

    Parameters
    ----------
    text
        The condition.
    exact
        Whether it holds for no row for which what was asked does not; else DuckDB has to look again.
    few
        Whether it asks for single values, so that few rows can be expected; a range may keep any number.
    """

    text: str
    exact: bool
    few: bool = False


NEVER = Part("false", exact=True, few=True)


def all_of(parts: Iterable[Part | None]) -> Part | None:
    """Join conditions by AND; one that cannot be written is left out, and the rest is no longer exact."""
    found = list(parts)
    kept = [part for part in found if part is not None]
    if not kept:
        return None
    exact = len(kept) == len(found) and all(part.exact for part in kept)
    return Part(_joined(kept, " AND "), exact, few=any(part.few for part in kept))


def any_of(parts: Iterable[Part | None]) -> Part | None:
    """Join conditions by OR; without one of them there is none."""
    kept = []
    for part in parts:
        if part is None:
            return None
        kept.append(part)
    if not kept:
        return NEVER
    return Part(_joined(kept, " OR "), all(part.exact for part in kept), few=all(part.few for part in kept))


def _joined(parts: list[Part], word: str) -> str:
    return parts[0].text if len(parts) == 1 else word.join(f"({part.text})" for part in dict.fromkeys(parts))


def is_comparable(data_type: pa.DataType) -> bool:
    """Whether both engines order the values of a type alike, and Lance can be told one."""
    data_type = value_type(data_type)
    tests = (_is_text, _is_bytes, pt.is_boolean, pt.is_floating, pt.is_integer, pt.is_decimal128, pt.is_date32)
    if pt.is_timestamp(data_type) or pt.is_time(data_type):
        return data_type.unit != "ns" or (
            pt.is_timestamp(data_type) and not data_type.tz
        )  # DuckDB 2.0 compares no others
    return any(test(data_type) for test in tests)


def is_null(path: str, *, holds: bool) -> Part:
    """Return the condition that a column is NULL, or that it is not."""
    return Part(f"{path} IS {'' if holds else 'NOT '}NULL", exact=True)


def listed(path: str, data_type: pa.DataType, values: list[Any]) -> Part | None:
    """Return the condition that a column is equal to one of some values."""
    if len(values) > _MOST_VALUES:
        return None
    plain = [_plain(value, value_type(data_type)) for value in values]
    if None not in plain and plain:
        return Part(f"{path} IN ({', '.join(dict.fromkeys(map(str, plain)))})", exact=True, few=True)
    return any_of(compared(path, data_type, "=", value) for value in values)


def compared(path: str, data_type: pa.DataType, sign: str, value: Any) -> Part | None:
    """Return the condition that a column stands in some order to a value, or None if Lance cannot be told.

    Parameters
    ----------
    path
        The column, quoted.
    data_type
        Its type.
    sign
        ``=``, ``<>``, ``<``, ``<=``, ``>`` or ``>=``.
    value
        As Python has it. A float is compared as a number of double precision, a `Decimal` as written.
    """
    data_type = value_type(data_type)
    if pt.is_floating(data_type):
        return _float_compared(path, data_type, sign, value)
    if (plain := _plain(value, data_type)) is not None:
        return Part(f"{path} {sign} {plain}", exact=True, few=sign == "=")
    ticks = _ticks(value, data_type)
    if ticks is None or not _is_within(ticks, data_type):
        return None
    # DuckDB compares with a float as floats: of integers and decimals beyond 53 bits many become the same one.
    loose = isinstance(value, float) and pt.is_decimal(data_type)
    if isinstance(value, float) and (abs(ticks) >= 1 << 53 or (loose and data_type.precision > _DOUBLE_DIGITS)):
        return None
    below, above = (_typed(tick, data_type) for tick in (math.floor(ticks), math.ceil(ticks)))
    return _snapped(path, sign, below, above, loose=loose)


def _snapped(path: str, sign: str, below: str, above: str, *, loose: bool) -> Part:
    """Compare with a value that lies on its two neighbours in the column, or between them.

    Loose means that DuckDB may take the value for either of them.
    """
    if below == above:
        return Part(f"{path} {sign} {below}", exact=not loose, few=sign == "=")
    if sign in ("=", "<>") and not loose:
        return NEVER if sign == "=" else is_null(path, holds=False)
    text = {
        "=": f"{path} IN ({below}, {above})",
        "<>": f"{path} IS NOT NULL",
        ">": f"{path} > {below}",
        ">=": f"{path} >= {below if loose else above}",
        "<": f"{path} < {above}",
        "<=": f"{path} <= {above if loose else below}",
    }
    return Part(text[sign], exact=not loose, few=sign == "=")


def _float_compared(path: str, data_type: pa.DataType, sign: str, value: Any) -> Part | None:
    """To DuckDB a NaN equals any NaN and is the greatest; to Lance one with the sign bit, as 0/0 is, is the least."""
    number = _float(value)
    if number is None:
        return None
    least, most = (_float_literal(bound, data_type) for bound in (-math.inf, math.inf))
    nan, number_at_all = f"({path} > {most} OR {path} < {least})", f"({path} >= {least} AND {path} <= {most})"
    if math.isnan(number):
        kinds = {
            "=": nan,
            ">=": nan,
            ">": "false",
            "<>": number_at_all,
            "<": number_at_all,
            "<=": f"{path} IS NOT NULL",
        }
        return Part(kinds[sign], exact=True)
    below, above = (_float_literal(each, data_type) for each in _neighbours(number, data_type))
    part = _snapped(path, sign, below, above, loose=below != above)
    if sign in (">", ">="):
        return Part(f"({part.text} OR {path} < {least})", exact=part.exact)
    if sign in ("<", "<="):
        return Part(f"({part.text} AND {path} >= {least})", exact=part.exact)
    return part


def _float(value: Any) -> float | None:
    """Return a number as the one of double precision that DuckDB makes of it, if that is certain."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(value, int) and abs(value) > 1 << 53:
        return None
    if isinstance(value, Decimal) and len(value.as_tuple().digits) > _DOUBLE_DIGITS:
        return None  # DuckDB divides the digits by a power of ten, which rounds twice beyond
    return float(value)


def _neighbours(number: float, data_type: pa.DataType) -> tuple[float, float]:
    if pt.is_float64(data_type):
        return number, number
    kind = np.float16 if pt.is_float16(data_type) else np.float32
    with np.errstate(over="ignore"):
        near = kind(number)
    if float(near) == number:
        return number, number
    other = np.nextafter(near, kind(-np.inf if float(near) > number else np.inf))
    low, high = sorted((float(near), float(other)))
    return low, high


def _float_literal(number: float, data_type: pa.DataType) -> str:
    if math.isfinite(number) and (pt.is_float64(data_type) or number == 0 or abs(number) > 1e-30):
        return repr(number)
    return f"arrow_cast('{number!r}', '{_ARROW_FLOATS[data_type.bit_width]}')"


_ARROW_FLOATS = {16: "Float16", 32: "Float32", 64: "Float64"}


def value_type(data_type: pa.DataType) -> pa.DataType:
    """Return what a dictionary holds; any other type as it is."""
    return data_type.value_type if pt.is_dictionary(data_type) else data_type


def _is_text(data_type: pa.DataType) -> bool:
    return bool(pt.is_string(data_type) or pt.is_large_string(data_type))


def _is_bytes(data_type: pa.DataType) -> bool:
    return bool(pt.is_binary(data_type) or pt.is_large_binary(data_type) or pt.is_fixed_size_binary(data_type))


def _plain(value: Any, data_type: pa.DataType) -> str | None:
    """Return the literal of a value that is of the column's own kind."""
    if isinstance(value, bool):
        return literal(value) if pt.is_boolean(data_type) else None
    if isinstance(value, str):
        return literal(value) if _is_text(data_type) else None
    if isinstance(value, bytes):
        return literal(value) if _is_bytes(data_type) and _has_width(value, data_type) else None
    if isinstance(value, int) and pt.is_integer(data_type):
        return str(value) if _is_within(value, data_type) else None
    return None


def _has_width(value: bytes, data_type: pa.DataType) -> bool:
    return not pt.is_fixed_size_binary(data_type) or len(value) == data_type.byte_width


_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_UNITS = {"s": "Second", "ms": "Millisecond", "us": "Microsecond", "ns": "Nanosecond"}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _ticks(value: Any, data_type: pa.DataType) -> Fraction | None:
    """Return a value in the steps of a column: days, microseconds, hundredths; None if it is of another kind."""
    if isinstance(value, bool):
        return None
    if pt.is_integer(data_type) or pt.is_decimal(data_type):
        finite = isinstance(value, int | float | Decimal) and math.isfinite(value)
        return Fraction(value) * 10 ** (data_type.scale if pt.is_decimal(data_type) else 0) if finite else None
    if pt.is_date(data_type) and type(value) is dt.date:
        return Fraction(value.toordinal() - _EPOCH.toordinal())
    if pt.is_timestamp(data_type) and isinstance(value, dt.datetime):
        if value.tzinfo and data_type.unit == "ns":
            return None  # refused by DuckDB 2.0
        moment = value if value.tzinfo else value.replace(tzinfo=dt.UTC)  # what has no zone is in UTC, as everywhere
        return _seconds(moment - _EPOCH) * _PER_SECOND[data_type.unit]
    if pt.is_time(data_type) and isinstance(value, dt.time) and value.tzinfo is None:
        since = dt.timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
        )
        return _seconds(since) * _PER_SECOND[data_type.unit]
    return None


def _seconds(delta: dt.timedelta) -> Fraction:
    return Fraction(delta // dt.timedelta(microseconds=1), 10**6)


def _is_within(ticks: Fraction | int, data_type: pa.DataType) -> bool:
    if pt.is_decimal(data_type):
        return bool(abs(ticks) < 10**data_type.precision)
    bits = data_type.bit_width
    if pt.is_unsigned_integer(data_type):
        return bool(0 <= ticks < 1 << bits)
    return bool(-(1 << bits - 1) <= ticks < 1 << bits - 1)


def _typed(ticks: int, data_type: pa.DataType) -> str:
    """Write so many steps of a column as a value of its type; a bare literal would be of another, and round."""
    if pt.is_integer(data_type):
        return str(ticks)
    if pt.is_decimal(data_type):
        number = Decimal(ticks).scaleb(-data_type.scale)
        return f"arrow_cast('{number:f}', 'Decimal128({data_type.precision}, {data_type.scale})')"
    if pt.is_date(data_type):
        return f"arrow_cast(arrow_cast({ticks}, 'Int32'), 'Date32')"
    if pt.is_timestamp(data_type):
        zone = f'Some("{data_type.tz}")' if data_type.tz else "None"
        return f"arrow_cast({ticks}, 'Timestamp({_UNITS[data_type.unit]}, {zone})')"
    bits = data_type.bit_width
    return f"arrow_cast(arrow_cast({ticks}, 'Int{bits}'), 'Time{bits}({_UNITS[data_type.unit]})')"
