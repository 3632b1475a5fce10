"""Which columns of a version are read, and what each becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader.forms.columns import ROW_ID, Column, Form, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.loader.options import LoaderOptions
    from lakehouse.snapshot import Snapshot

__all__ = ["chosen_columns"]


def chosen_columns(snapshot: Snapshot, options: LoaderOptions) -> tuple[Column, ...]:
    """Decide what is read.

    Raises
    ------
    ColumnNotFoundError
        A column the table does not have.
    SchemaError
        What was asked of a column is not for such a one.
    InvalidArgumentError
        `decode` names what is not read, or two things of a batch would have one name.
    """
    if options.packing is not None:
        snapshot.columns([name for name in (options.packing.column, options.packing.lengths) if name is not None])
        return (options.packing.column_of(snapshot.schema.field(options.packing.column)),)
    names = list(options.columns) if options.columns is not None else list(snapshot.schema.names)
    snapshot.columns([name for name in names if name != ROW_ID])
    decode = options.decode
    columns = tuple(
        Column(ROW_ID, Form.NUMBERS)
        if name == ROW_ID
        else column_of(snapshot.schema.field(name), decode.get(name), raw=name in decode and decode[name] is None)
        for name in names
    )
    _check_names(columns, options)
    return columns


def _check_names(columns: Sequence[Column], options: LoaderOptions) -> None:
    """Refuse to decode what is not read, and columns whose names meet in a batch."""
    names = [column.name for column in columns]
    for name in options.decode:
        if name not in names:
            raise InvalidArgumentError(f"decode names {name!r}, and the columns read are {', '.join(names)}")
    for column in columns:
        for key in column.keys[1:]:
            if key in names:
                raise InvalidArgumentError(
                    f"decode={{{column.name!r}: …}} gives {key!r} beside it, which is a column of its own; leave that "
                    "out of columns=[…]"
                )
    marks = {"_is_bad": options.on_bad_rows == "mask", "_is_pad": options.drop_last is False}
    for name in names:
        if marks.get(name):
            raise InvalidArgumentError(
                f"a batch has {name!r} beside its columns, which tells what stands where; leave the column of that "
                "name out with columns=[…]"
            )
