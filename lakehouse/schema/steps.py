"""The steps from a table to a schema, as data that prints; who carries them out is not known here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from lakehouse import types

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from lakehouse.schema.model import Schema

__all__ = ["AddColumn", "AllowNull", "DropColumn", "Plan", "RenameColumn", "SetMetadata", "Step"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change of one column; each is a commit of metadata that leaves every data file as it is.

    Parameters
    ----------
    column
        The column as it is called when the step is carried out.
    nbytes_read, nbytes_written
        What carrying it out costs; a manifest is written, nothing is read.
    """

    verb: ClassVar[str]
    effect: ClassVar[Literal["safe", "destructive"]] = "safe"

    column: str
    nbytes_read: int = 0
    nbytes_written: int = 0

    @property
    def description(self) -> str:
        """What happens, in a few words."""
        return self._what()

    def applied_to(self, schema: pa.Schema) -> pa.Schema:
        """Return the logical schema after the step."""
        return self._on(schema, schema.get_field_index(self.column))

    def _what(self) -> str:
        raise NotImplementedError

    def _on(self, schema: pa.Schema, place: int) -> pa.Schema:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class RenameColumn(Step):
    """Give a column another name."""

    verb = "rename"
    to: str

    def _what(self) -> str:
        return f"to {self.to}"

    def _on(self, schema: pa.Schema, place: int) -> pa.Schema:
        return schema.set(place, schema.field(place).with_name(self.to))


@dataclass(frozen=True, kw_only=True)
class AddColumn(Step):
    """Add a column that is NULL in every row there is."""

    verb = "add"
    field: pa.Field

    def _what(self) -> str:
        return f"{types.meaning(self.field)}; NULL in the rows there are"

    def _on(self, schema: pa.Schema, place: int) -> pa.Schema:  # noqa: ARG002  there is none yet
        return schema.append(self.field)


@dataclass(frozen=True, kw_only=True)
class AllowNull(Step):
    """Let rows leave a column out."""

    verb = "allow null"

    def _what(self) -> str:
        return "no longer NOT NULL"

    def _on(self, schema: pa.Schema, place: int) -> pa.Schema:
        return schema.set(place, schema.field(place).with_nullable(True))


@dataclass(frozen=True, kw_only=True)
class SetMetadata(Step):
    """Change what is said about a column: its documentation, unit, media type, or new values of a category.

    Parameters
    ----------
    metadata
        Keys of the field's metadata and their new values; ``None`` takes a key away.
    """

    verb = "set"
    metadata: tuple[tuple[str, str | None], ...]

    def _what(self) -> str:
        changes = ((key.partition(":")[2], value) for key, value in self.metadata)
        said = (f"no {key}" if value is None else f"{key} = {value}" for key, value in changes)
        return ", ".join(said)

    def _on(self, schema: pa.Schema, place: int) -> pa.Schema:
        field = schema.field(place)
        changed = {key.encode(): value for key, value in self.metadata}
        kept = {key: value for key, value in (field.metadata or {}).items() if key not in changed}
        said = {key: value.encode() for key, value in changed.items() if value is not None}
        return schema.set(place, field.with_metadata({**kept, **said}))


@dataclass(frozen=True, kw_only=True)
class DropColumn(Step):
    """Take a column and its values away; older versions keep them until they are vacuumed.

    Parameters
    ----------
    nbytes
        What the column's values take, or ``None`` if that was not said.
    """

    verb = "drop"
    effect = "destructive"
    nbytes: int | None = None

    def _what(self) -> str:
        held = "its values" if self.nbytes is None else f"its values, {_nbytes(self.nbytes)},"
        return f"{held} stay in older versions until vacuum"

    def _on(self, schema: pa.Schema, place: int) -> pa.Schema:
        return schema.remove(place)


@dataclass(frozen=True)
class Plan:
    """Ordered steps from a table to a schema; safe ones first. Empty is false.

    Parameters
    ----------
    table
        The table's name.
    wanted
        The schema it leads to. Whoever carries it out plans again and compares: the table may have moved.
    steps
        In the order of carrying out.
    features, unmanaged
        Columns the schema does not name, which are left alone.
    notes
        What the schema asks for and is done already.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from lakehouse.schema import Column, Schema
    >>> from lakehouse.schema.evolution import plan
    >>> wanted = Schema("pets", None, [Column("name", "string"), Column("age", "float32", unit="y")])
    >>> print(plan(pa.schema({"name": pa.string(), "note": pa.string()}), wanted))
    plan for pets: 1 step, 0 bytes read, 0 bytes written
      step  column  effect  what
      add   age     safe    float32 (y); NULL in the rows there are
    not in the schema, left alone: note
    """

    table: str
    wanted: Schema
    steps: tuple[Step, ...]
    features: tuple[str, ...] = ()
    unmanaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps

    @property
    def is_destructive(self) -> bool:
        """Whether a step takes values away."""
        return any(step.effect == "destructive" for step in self.steps)

    @property
    def nbytes_read(self) -> int:
        """What all steps read."""
        return sum(step.nbytes_read for step in self.steps)

    @property
    def nbytes_written(self) -> int:
        """What all steps write."""
        return sum(step.nbytes_written for step in self.steps)

    def __str__(self) -> str:
        count = f"{len(self)} step{'s' * (len(self) != 1)}"
        cost = f"{_nbytes(self.nbytes_read)} read, {_nbytes(self.nbytes_written)} written"
        lines = [f"plan for {self.table}: " + (f"{count}, {cost}" if self.steps else "nothing to do")]
        rows = [("step", "column", "effect", "what")]
        rows += [(step.verb, step.column, step.effect, step.description) for step in self.steps]
        if self.steps:
            widths = [max(len(row[place]) for row in rows) for place in range(3)]
            lines += ["  " + "  ".join((*map(str.ljust, row, widths), row[3])) for row in rows]
        lines += self.notes
        for what, names in (("features", self.features), ("not in the schema", self.unmanaged)):
            if names:
                lines.append(f"{what}, left alone: {', '.join(names)}")
        return "\n".join(lines)


def _nbytes(count: int) -> str:
    if count < 1000:
        return f"{count} bytes"
    power = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.3g} {' kMGT'[power]}B"
