"""Which features rows must have to be read, and to be found: told from columns and predicate, as predicates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.schema.lineage import Feature, owner_of, upstream
from lakehouse.where import quoted, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakehouse.snapshot import Snapshot
    from lakehouse.where import Where

__all__ = ["Needs"]


@dataclass(frozen=True)
class Needs:
    """The features that rows must have.

    Parameters
    ----------
    where
        Lance's SQL, rendered; None means all rows.
    by_where, by_columns
        The features that decide which rows match, and those that are read of them; each with what it is computed from.
    """

    where: str | None = None
    by_where: tuple[Feature, ...] = ()
    by_columns: tuple[Feature, ...] = ()

    @classmethod
    def of(cls, snapshot: Snapshot, columns: Iterable[str], where: Where | None) -> Needs:
        """Find the features among columns, and those that a predicate names."""
        rendered = render(where, snapshot.schema.names)
        return cls(rendered, _features(snapshot, _named(snapshot, rendered)), _features(snapshot, columns))

    @property
    def features(self) -> tuple[Feature, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.by_where, *self.by_columns)))

    @property
    def ready(self) -> list[str]:
        """The tests that a row passes in which all features are ready."""
        return [_ready(feature) for feature in self.features]

    def unjudged(self) -> str | None:
        """Return the predicate of the rows that might match if the features it needs were there."""
        if self.where is None or not self.by_where:
            return None
        names = {name.casefold(): name for feature in self.by_where for name in feature.columns}

        def unknown(match: re.Match[str]) -> str:
            if (name := _name(match)) not in names:
                return match[0]
            value = quoted(names[name]) + match[0][len(match["name"]) :]
            return f"nullif({value}, {value})"

        known = " AND ".join(_ready(feature) for feature in self.by_where)
        return f"NOT ({known}) AND {_WORD.sub(unknown, self.where)} IS NOT FALSE"

    def asked(self) -> str | None:
        """Return the predicate of the rows asked for, those counted in of which nobody can say it."""
        unjudged = self.unjudged()
        return self.where if unjudged is None else f"{self.where} OR ({unjudged})"


def _features(snapshot: Snapshot, columns: Iterable[str]) -> tuple[Feature, ...]:
    owners = [owner for name in columns if (owner := owner_of(snapshot.features, name))]
    above = [each for owner in owners for each in upstream(snapshot.features, snapshot.field_ids, owner)]
    return tuple(dict.fromkeys((*owners, *above)))


def _ready(feature: Feature) -> str:
    stamp = quoted(feature.stamp)
    return f"({stamp} IS NOT NULL AND {stamp} >= {feature.true_from} AND {stamp} % 2 = 0)"


# A name, with the fields of a struct after it; not a function, nor a typed literal, nor what stands in quotes.
_WORD = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?P<name>`[^`]*`|[^\W\d]\w*)(?:\.[^\W\d]\w*)*+(?!\w|\s*[('"])""")


def _name(match: re.Match[str]) -> str | None:
    return match["name"].strip("`").casefold() if match["name"] else None


def _named(snapshot: Snapshot, where: str | None) -> Sequence[str]:
    """Return the columns that a predicate names; to Lance, case makes no difference."""
    columns = {name.casefold(): name for name in snapshot.schema.names}
    names = [_name(match) for match in _WORD.finditer(where or "")]
    return [columns[name] for name in names if name in columns]
