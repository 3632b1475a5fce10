"""What happened to a column: read from the table's log, from the log of runs, and from what was remembered of versions.

What was asked for once is remembered; of the rest a clean-up leaves the runs, and the record itself.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import layout
from lakehouse.features.evolution.events import Event, Log
from lakehouse.features.jobs import runs
from lakehouse.schema.lineage import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

__all__ = ["HISTORY", "column_history"]

HISTORY = pa.schema(
    [
        pa.field("version", pa.int64()),
        pa.field("when", pa.timestamp("us", "UTC")),
        pa.field("who", pa.string()),
        pa.field("what", pa.string()),
        pa.field("generation", pa.int32()),
        pa.field("code_hash", pa.string()),
        pa.field("source", pa.string()),
        pa.field("num_rows", pa.int64()),
        pa.field("num_failed", pa.int64()),
        pa.field("nbytes", pa.int64()),
        pa.field("run", pa.string()),
        pa.field("message", pa.string()),
    ]
)


def column_history(snapshot: Snapshot, column: str, *, remember: bool = False) -> pa.Table:
    """Return what happened to a column up to this version, newest last.

    Parameters
    ----------
    snapshot
        The version.
    column
        Its name in this version; any output of a feature stands for all.
    remember
        Whether to keep what was read of features, so that a clean-up of versions does not end their history.

    Returns
    -------
    pyarrow.Table
        Of schema `HISTORY`; what is not known is NULL.

    Raises
    ------
    ColumnNotFoundError
    """
    feature = owner_of(snapshot.features, column)
    if feature is None:
        snapshot.columns([column])
    log = Log.read(snapshot)
    if remember:
        _remember(snapshot, log.events)
    subject = feature.token if feature else log.subjects[snapshot.field_ids[column]]
    kept = [event for event in _remembered(snapshot) if event.subject == subject]
    read = [event for event in log.events if event.subject == subject and not (event.is_guess and kept)]
    known = {(event.version, event.what): event for event in [*kept, *read]}
    events = _with_runs(known.values(), runs.read(snapshot.lake, snapshot.name, subject).to_pylist() if feature else [])
    events = [event for event in events if event.version is None or event.version <= snapshot.version]
    events = _without_steps(sorted(events, key=lambda event: (event.when, event.version or 0)))
    rows = [{**asdict(event), "when": dt.datetime.fromisoformat(event.when)} for event in events]
    return pa.Table.from_pylist(rows, schema=HISTORY)


def _remember(snapshot: Snapshot, events: Iterable[Event]) -> None:
    """Keep what the log tells of features, which are known by a token for good, for when its versions are gone."""
    kept = list(_remembered(snapshot))
    known = {(event.subject, event.version, event.what) for event in kept}
    subjects = {event.subject for event in kept}
    new = [
        event
        for event in events
        if event.generation is not None
        and (event.subject, event.version, event.what) not in known
        and not (event.is_guess and event.subject in subjects)
    ]
    if new:
        text = json.dumps([asdict(event) for event in new])
        _folder(snapshot).write_bytes(f"{snapshot.version}-{uuid.uuid4().hex}.json", text.encode())


def _remembered(snapshot: Snapshot) -> Iterator[Event]:
    folder = _folder(snapshot)
    for name in folder.listdir():
        yield from (Event(**raw) for raw in json.loads(folder.read_bytes(name)))


def _folder(snapshot: Snapshot) -> Location:
    return layout.side(snapshot.lake).child("history").child(snapshot.name)


def _with_runs(events: Iterable[Event], known: list[dict[str, Any]]) -> list[Event]:
    """Make one event of the commits of a run, with what its log tells; runs whose versions are gone are told too."""
    single = [event for event in events if event.run is None]
    by_run: dict[str, Event] = {}
    for event in events:
        if event.run is not None and (event.version or 0) >= (by_run.get(event.run, event).version or 0):
            by_run[event.run] = event
    for run in known:
        if run["state"] == "done" and not run["versions"]:  # there was nothing to do
            continue
        last = by_run.get(run["run"])
        when = run["ended_at"] or run["started_at"]
        by_run[run["run"]] = Event(
            subject="",
            version=last.version if last else max(run["versions"], default=None),
            when=when.isoformat(),
            who=run["who"],
            what="filled" if run["state"] == "done" else run["state"],
            generation=run["generation"],
            code_hash=run["code_hash"],
            source=run["function"],
            num_rows=run["num_rows"],
            num_failed=run["num_failed"],
            nbytes=run["nbytes_written"],
            run=run["run"],
            message=run["error"] or (last.message if last else None),
        )
    return [*single, *by_run.values()]


def _without_steps(events: list[Event]) -> list[Event]:
    """Leave out the beginning of what was also ended."""
    after = [*events[1:], None]
    return [
        event
        for event, then in zip(events, after, strict=True)
        if not (event.what == "rolling back" and then is not None and then.what == "rolled back")
    ]
