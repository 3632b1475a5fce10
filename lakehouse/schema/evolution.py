"""From the table as it is to the schema as written; decides, and touches no table.

A schema owns only the columns it names; features and other columns are listed and left alone. The law: the
plan for ``apply(current, plan(current, wanted))`` is empty.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse import types
from lakehouse.errors import SchemaError, closest
from lakehouse.schema.steps import AddColumn, AllowNull, DropColumn, Plan, RenameColumn, SetMetadata, Step
from lakehouse.types import Type

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pyarrow as pa

    from lakehouse.schema.model import Column, Schema

__all__ = [
    "AddColumn",
    "AllowNull",
    "DropColumn",
    "Plan",
    "RenameColumn",
    "SetMetadata",
    "Step",
    "apply",
    "plan",
]

_OWNED = (types.TYPE, types.VALUES, types.STORAGE, types.DOC, types.UNIT)


def plan(
    current: pa.Schema,
    wanted: Schema,
    *,
    table: str | None = None,
    features: Collection[str] = (),
    dependents: Mapping[str, Collection[str]] | None = None,
    nbytes: Mapping[str, int] | None = None,
    manifest_nbytes: int = 0,
) -> Plan:
    """Plan the steps from a table's columns to a schema's.

    Parameters
    ----------
    current
        The table's logical schema, stamps left out.
    wanted
        The schema to reach.
    table
        The table's name, for print; the schema's own if ``None``.
    features
        Columns that a feature fills; they are neither renamed nor dropped here.
    dependents
        For each column the features computed from it directly; such a column is neither renamed nor dropped.
    nbytes
        What each column's values take, to say what a drop gives up.
    manifest_nbytes
        Size of the table's manifest: each step writes one.

    Returns
    -------
    Plan
        Renames, metadata, new columns, then drops: nothing is lost before the rest is done.

    Raises
    ------
    SchemaError
        A change that metadata alone cannot make (a type, NOT NULL, the key, removed or reordered values of a
        category), or a column that a feature needs.
    """
    table = table or wanted.name
    renames, drops, notes = _changes(current, wanted)
    for names, what in ((renames, "renamed"), (drops, "dropped")):
        for name in names:
            _check_free(name, what, table, features, dependents or {})
    _check_key(current, wanted, table, renames, drops)

    there = {renames.get(field.name, field.name): field for field in current}
    kept = [column for column in wanted.columns if column.name in there]
    steps: list[Step] = [RenameColumn(column=old, to=new) for old, new in renames.items()]
    steps += [step for column in kept for step in _change(there[column.name], column, table)]
    steps += [_addition(column, table) for column in wanted.columns if column not in kept]
    steps += [DropColumn(column=name, nbytes=(nbytes or {}).get(name)) for name in drops]
    left = [name for name in current.names if name not in {*wanted.names, *renames, *drops}]
    return Plan(
        table,
        wanted,
        tuple(replace(step, nbytes_written=manifest_nbytes) for step in steps),
        features=tuple(name for name in left if name in features),
        unmanaged=tuple(name for name in left if name not in features),
        notes=tuple(notes),
    )


def apply(current: pa.Schema, plan: Plan) -> pa.Schema:
    """Return the logical schema a plan leads to."""
    for step in plan:
        current = step.applied_to(current)
    return current


def _changes(current: pa.Schema, wanted: Schema) -> tuple[dict[str, str], list[str], list[str]]:
    # A file keeps saying what it changed after it was applied: what is done already is a note, no error.
    renames: dict[str, str] = {}
    notes = []
    for column in wanted.columns:
        old, new = column.renamed_from, column.name
        if old is None:
            continue
        if new in current.names:
            notes.append(f"rename {old} to {new}: {new} is there already")
        elif old in current.names:
            renames[old] = new
        else:
            notes.append(f"rename {old} to {new}: no column {old!r}{closest(old, current.names)}")
    drops = [name for name in wanted.drop if name in current.names]
    missing = [name for name in wanted.drop if name not in current.names]
    notes += [f"drop {name}: no column {name!r}{closest(name, current.names)}" for name in missing]
    return renames, drops, notes


def _check_free(
    name: str, what: str, table: str, features: Collection[str], dependents: Mapping[str, Collection[str]]
) -> None:
    if name in features:
        call = "rename_column" if what == "renamed" else "drop_columns"
        raise SchemaError(f"table {table!r}: {name!r} is a feature; it is {what} by the table's {call}")
    users = ", ".join(dependents.get(name, ()))
    if users:
        raise SchemaError(f"table {table!r}: {name!r} cannot be {what}, {users} is computed from it; drop that first")


def _check_key(
    current: pa.Schema, wanted: Schema, table: str, renames: Mapping[str, str], drops: Collection[str]
) -> None:
    key = types.key_of(current)
    if key is not None and key in drops:
        raise SchemaError(f"table {table!r}: {key!r} is the key and cannot be dropped")
    name = renames.get(key or "", key)
    if name in wanted.names and wanted.column(name).nullable:
        raise SchemaError(f"table {table!r}: {name!r} is the key; write nullable = false")
    if wanted.key is None or wanted.key == name:
        return
    there = f"the key is {key!r}" if key else "there is no key"
    raise SchemaError(
        f"table {table!r}: {there} and cannot become {wanted.key!r}; "
        "create a table with the new key and add the rows to it"
    )


def _addition(column: Column, table: str) -> Step:
    if not column.nullable:
        raise SchemaError(
            f"table {table!r}: column {column.name!r} is new, so the rows there are have no value; "
            "take nullable = false away"
        )
    return AddColumn(column=column.name, field=column.to_field())


def _change(field: pa.Field, column: Column, table: str) -> list[Step]:
    where = f"table {table!r}, column {column.name!r}"
    _check_type(field, column.type, where)
    steps: list[Step] = []
    if column.nullable and not field.nullable:
        steps.append(AllowNull(column=column.name))
    if field.nullable and not column.nullable:
        raise SchemaError(f"{where}: rows may hold NULL already; take nullable = false away")
    said, present = column.to_field().metadata or {}, field.metadata or {}
    differing = tuple(
        (key.decode(), said[key].decode() if key in said else None)
        for key in _OWNED
        if said.get(key) != present.get(key)
    )
    if differing:
        steps.append(SetMetadata(column=column.name, metadata=differing))
    return steps


def _check_type(field: pa.Field, wanted: Type, where: str) -> None:
    present = Type.from_field(field)
    if present == wanted:
        return
    if present.name == wanted.name == "category":
        _check_values(present.values, wanted.values, where)
        return
    if "category" not in (present.name, wanted.name) and present.arrow_type == wanted.arrow_type:
        here = present.storage or "inline"
        if here == (wanted.storage or "inline"):
            return  # a label only: plain bytes become an image, an image a blob
        if wanted.name in types.BYTES_MEDIA:
            raise SchemaError(f"{where}: the bytes are stored {here}; write storage = {here!r} to keep them so")
    raise SchemaError(
        f"{where}: it holds {_worded(present)} and cannot become {_worded(wanted)}; "
        "add a column of the new type, fill it, then drop this one"
    )


def _worded(type_: Type) -> str:
    return str(type_) if type_.has_default_storage else f"{type_.storage} {type_}"


def _check_values(present: tuple[str, ...], wanted: tuple[str, ...], where: str) -> None:
    gone = [value for value in present if value not in wanted]
    if gone:
        out = ", ".join(map(repr, gone))
        raise SchemaError(f"{where}: values are append-only, {out} cannot be taken out")
    if wanted[: len(present)] != present:
        order = ", ".join(map(repr, present))
        raise SchemaError(f"{where}: values are append-only, new ones go behind {order} in this order")
