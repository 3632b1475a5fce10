"""Which values nobody vouches for: a fold over what each version did to rows and fields.

Writes of this library reset the stamps of what they make untrue. Writes of others do not, so every row of a fragment
in which they changed an input, a value or a stamp of a feature is suspect for it. It stays so whatever is written
after: a fill of ours that was under way may land on top. Only a reset of its stamp, which no such fill survives, or
somebody who declares the values right ends it. Rows keep their ids wherever they are moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lakehouse.features.records.rowids import RowIds, union

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Entries = tuple[tuple[int, RowIds], ...]

_MOST = 16  # entries kept apart; a write is only forgiven together with those it is put together with


@dataclass(frozen=True)
class Watched:
    """What the truth of one feature hangs on.

    Parameters
    ----------
    token
        The feature's.
    since
        The version it was declared on.
    inputs
        Field ids of its input columns.
    stored
        The ids by which data files know its inputs, its columns and its stamp.
    stamp
        The stamp's id.
    """

    token: str
    since: int
    inputs: frozenset[int]
    stored: frozenset[int]
    stamp: int


@dataclass(frozen=True)
class Changed:
    """A fragment others wrote to.

    Parameters
    ----------
    fields
        What they wrote.
    rows
        Its rows after it.
    claims
        Whose stamps it has; None where it was there before, since a fill of any feature may be under way to it.
    """

    fields: frozenset[int]
    rows: RowIds
    claims: frozenset[int] | None = None


@dataclass(frozen=True)
class Step:
    """What one transaction did, as far as it matters here.

    Parameters
    ----------
    version, read_version
        What it became, and what it was made from.
    changed
        The fragments that others wrote to.
    columns
        The ids of the columns there are after it, if others wrote it.
    everything
        All rows there are, if nobody can tell what happened up to here.
    reset
        Rows whose stamps it put back to "to do", by token.
    accepted
        Tokens of features whose values it declares right.
    filled
        By token of the features it filled, who did so and when.
    """

    version: int
    read_version: int = 0
    changed: tuple[Changed, ...] = ()
    columns: frozenset[int] | None = None
    everything: RowIds = field(default_factory=RowIds)
    reset: Mapping[str, RowIds] = field(default_factory=dict)
    accepted: frozenset[str] = frozenset()
    filled: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Suspicion:
    """What is known at a version.

    Parameters
    ----------
    version
        The last one that was looked at.
    suspects
        By token, the rows nobody vouches for, each with the version of the write.
    lost
        By token, the version in which an input was gone: whatever has its id now is another column.
    filled
        By token, who filled it last, and when.
    tokens
        The features that were watched.
    """

    version: int
    suspects: Mapping[str, Entries] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    filled: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    tokens: frozenset[str] = frozenset()

    def rows(self, token: str) -> RowIds:
        """Return the rows in which nobody vouches for a feature."""
        return union(rows for _, rows in self.suspects.get(token, ()))

    def after(self, step: Step, watched: Iterable[Watched]) -> Suspicion:
        """Return what is known after one more transaction."""
        suspects, lost = dict(self.suspects), dict(self.lost)
        for each in watched:
            if each.since >= step.version:
                continue
            token = each.token
            suspects[token] = _shortened((*_left(suspects.get(token, ()), step, token), *_added(step, each)))
            if token in step.accepted and lost.get(token, 0) <= step.read_version:
                lost.pop(token, None)
            if step.columns is not None and not each.inputs <= step.columns:
                lost[token] = step.version
        return replace(self, version=step.version, suspects=suspects, lost=lost, filled={**self.filled, **step.filled})

    def suspecting(self, token: str, rows: RowIds) -> Suspicion:
        """Return the same with more rows suspect for a feature, since now."""
        entries = (*self.suspects.get(token, ()), (self.version, rows))
        return replace(self, suspects={**self.suspects, token: entries})


def is_touched(watched: Watched, fields: frozenset[int], claims: frozenset[int] | None) -> bool:
    """Whether a write to a fragment, see `Changed`, matters to a feature."""
    # A new fragment without stamps claims nothing, and no fill can be under way to it.
    return bool(fields & watched.stored) and (claims is None or watched.stamp in claims)


def _left(entries: Entries, step: Step, token: str) -> Entries:
    """Return what a transaction leaves suspect; it cannot forgive what was written after it was made."""
    if token not in step.reset and token not in step.accepted:
        return entries
    reset = step.reset.get(token, RowIds())
    forgiven = [rows if token in step.accepted else reset for _, rows in entries]
    pairs = zip(entries, forgiven, strict=True)
    left = ((since, rows - (less if since <= step.read_version else RowIds())) for (since, rows), less in pairs)
    return tuple((since, rows) for since, rows in left if rows)


def _added(step: Step, watched: Watched) -> Entries:
    touched = (each.rows for each in step.changed if is_touched(watched, each.fields, each.claims))
    rows = union((step.everything, *touched))
    return ((step.version, rows),) if rows else ()


def _shortened(entries: Entries) -> Entries:
    """Put the oldest together where there are many."""
    old = entries[: len(entries) - _MOST + 1]
    if len(old) < 2:
        return entries
    return ((old[-1][0], union(rows for _, rows in old)), *entries[len(old) :])


def to_json(known: Suspicion) -> dict[str, Any]:
    """Return a form that JSON keeps."""
    suspects = {token: [[since, rows.ranges] for since, rows in of] for token, of in known.suspects.items() if of}
    return {
        "version": known.version,
        "suspects": suspects,
        "lost": dict(known.lost),
        "filled": dict(known.filled),
        "tokens": sorted(known.tokens),
    }


def from_json(raw: Mapping[str, Any]) -> Suspicion:
    """Return what `to_json` was given."""
    suspects = {
        token: tuple((since, RowIds(tuple((start, stop) for start, stop in ranges))) for since, ranges in of)
        for token, of in raw["suspects"].items()
    }
    filled = {token: (who, when) for token, (who, when) in raw["filled"].items()}
    return Suspicion(raw["version"], suspects, raw["lost"], filled, frozenset(raw["tokens"]))
