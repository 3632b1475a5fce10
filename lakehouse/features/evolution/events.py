"""What the versions of a table tell of its columns.

A feature is known by its token, so that renames do not end its history; a plain column by its field id for as long as
it is in every version, because Lance gives the id of a dropped one to the next.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse import commit
from lakehouse._lance import lance
from lakehouse.errors import translated
from lakehouse.features.evolution import revisions
from lakehouse.schema.lineage import Feature, features_of
from lakehouse.storage import is_stamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakehouse.snapshot import Snapshot

__all__ = ["Event", "Log"]


@dataclass(frozen=True)
class Event:
    """One thing that happened to one column.

    Parameters
    ----------
    subject
        Which: a feature's token, or ``id@version`` of a plain column, the version it came with.
    version
        What it became; None if that is not known any more.
    when
        ISO 8601.
    """

    subject: str
    version: int | None
    when: str
    who: str | None
    what: str
    generation: int | None = None
    code_hash: str | None = None
    source: str | None = None
    num_rows: int | None = None
    num_failed: int | None = None
    nbytes: int | None = None
    run: str | None = None
    message: str | None = None

    @property
    def is_guess(self) -> bool:
        """Whether only the record of a later version tells of it."""
        return self.version is None and self.run is None


@dataclass(frozen=True)
class _State:
    """The columns of one version."""

    features: Mapping[str, Feature]  # by token
    plain: Mapping[int, str]
    field_ids: Mapping[str, frozenset[int]]  # of each subject's columns

    @classmethod
    def of(cls, dataset: Any) -> _State:
        features = {feature.token: feature for feature in features_of(dataset.schema).values()}
        stored, tops = commit.stored_ids(dataset), commit.top_ids(dataset)
        computed = {name for feature in features.values() for name in feature.columns}
        plain = {tops[f.name]: f.name for f in dataset.schema if f.name not in computed and not is_stamp(f)}
        ids = {f.token: frozenset().union(*(stored[name] for name in f.columns)) for f in features.values()}
        return cls(features, plain, ids | {str(number): stored[name] for number, name in plain.items()})


class Log:
    """The events of all columns, as the versions that are left tell them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.subjects: dict[int, str] = {}  # of the plain columns there are
        self._state = _State({}, {}, {})

    @classmethod
    def read(cls, snapshot: Snapshot) -> Log:
        """Go through the versions that are left, up to this one."""
        log, dataset = cls(), snapshot.dataset
        with translated(f"reading the history of {snapshot.name!r}"):
            for each in dataset.versions():
                if each["version"] <= snapshot.version:
                    log._step(snapshot, dataset, int(each["version"]), each["timestamp"].astimezone(dt.UTC))
        return log

    def _step(self, snapshot: Snapshot, dataset: Any, version: int, committed: dt.datetime) -> None:
        transaction = commit.transaction_of(dataset, version)
        said = commit.properties_of(snapshot.location, version, transaction) if transaction else {}
        told = Event(
            subject="",
            version=version,
            when=said.get(commit.AT, committed.isoformat()),
            who=said.get(commit.AUTHOR),
            what="",
            run=said.get(commit.RUN),
            message=said.get(commit.OPERATION),
        )
        operation = transaction.operation if transaction else None
        if isinstance(operation, _ROWS_ONLY) and self._state.field_ids:
            self._changed(operation, said, told)
            return
        before, self._state = self._state, _State.of(dataset.checkout_version(version))
        self._redeclared(before, said, told, oldest=not self.events and version > 1)
        self._renamed(before, told, version)
        if isinstance(operation, lance.LanceOperation.Restore):
            for token, feature in self._state.features.items():
                self.events.append(_about(feature, replace(told, subject=token, what="restored")))

    def _changed(self, operation: Any, said: Mapping[str, str], told: Event) -> None:
        """Note which columns got other values."""
        if isinstance(operation, lance.LanceOperation.DataReplacement):
            fields = {field for group in operation.replacements for field in group.new_file.fields}
        else:
            fields = set(getattr(operation, "fields_modified", ()))
        filled = said.get(commit.FILLED, "").split(",")
        # Of our own commits, one that puts old files back is told by the record that follows, and one that fills
        # nothing makes room for a fill.
        if commit.FROM_VERSION in said or (commit.ID in said and commit.FILLED not in said):
            return
        for subject, ids in self._state.field_ids.items():
            if not fields & ids:
                continue
            feature = self._state.features.get(subject)
            what = "filled" if subject in filled else "changed"
            who = feature.token if feature else self.subjects[int(subject)]
            event = replace(told, subject=who, what=what, run=told.run if what == "filled" else None)
            self.events.append(_about(feature, event))

    def _redeclared(self, before: _State, said: Mapping[str, str], told: Event, *, oldest: bool) -> None:
        for token, feature in self._state.features.items():
            was = before.features.get(token)
            what = _difference(was, feature, said.get(revisions.EVENT))
            if was is None and oldest:  # it came with a version that was cleaned up
                told = replace(told, version=None, who=feature.owner, when=feature.declared_at, message=None)
                what = what if feature.generation == 1 else "altered"
            if what:
                event = replace(told, subject=token, what=what, who=told.who or feature.owner)
                names = "" if was is None or was.columns == feature.columns else f"{', '.join(was.columns)} before"
                self.events.append(_about(feature, replace(event, message=told.message or names or None)))

    def _renamed(self, before: _State, told: Event, version: int) -> None:
        """Note what became of plain columns."""
        for number, name in self._state.plain.items():
            known = self.subjects.get(number) if number in before.plain else None
            if known is None:
                known = self.subjects[number] = f"{number}@{version}"
                self.events.append(replace(told, subject=known, what="added"))
            elif before.plain[number] != name:
                message = told.message or f"{before.plain[number]} before"
                self.events.append(replace(told, subject=known, what="renamed", message=message))
        self.subjects = {number: self.subjects[number] for number in self._state.plain}


_ROWS_ONLY = (
    lance.LanceOperation.Append,
    lance.LanceOperation.Delete,
    lance.LanceOperation.Update,
    lance.LanceOperation.DataReplacement,
    lance.LanceOperation.Rewrite,
    lance.LanceOperation.CreateIndex,
    lance.LanceOperation.DataOverlay,
)


def _difference(was: Feature | None, now: Feature, event: str | None) -> str | None:
    """Say in a word what happened to a feature's record; None if nothing did."""
    if was is None:
        return "imported" if now.kind == "data" else "declared"
    if len(now.columns) < len(was.columns):
        return "lost a column"
    if now.columns != was.columns:
        return "renamed"
    if (now.generation, now.oldest, now.code_hash) == (was.generation, was.oldest, was.code_hash):
        return None
    return event or ("altered" if now.generation > was.generation else "accepted")


def _about(feature: Feature | None, event: Event) -> Event:
    if feature is None:
        return event
    return replace(event, generation=feature.generation, code_hash=feature.code_hash, source=feature.source)
