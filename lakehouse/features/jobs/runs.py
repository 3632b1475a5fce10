"""The log of runs: who filled a feature, with what, from what, when, and what came of it.

One small file of JSON per run and feature, written at the start, after each commit and at the end. A run that was
killed stays as it was; that it is over shows in its lease, which nobody holds any more.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import json
import socket
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import commit, layout
from lakehouse.features.storing import checkpoints
from lakehouse.features.udfs import environment
from lakehouse.leases import holders
from lakehouse.schema.lineage import Feature, input_names, upstream

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from lakehouse.features.jobs.options import BackfillResult, Options
    from lakehouse.features.udfs.udf import UDF
    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

_SUFFIX = ".json.gz"
_BEGAN = "%Y%m%dT%H%M%S.%f"  # how the id of a run begins
_TIME = pa.timestamp("us", "UTC")
RUNS = pa.schema(
    [
        pa.field("run", pa.string()),
        pa.field("columns", pa.list_(pa.string())),
        pa.field("state", pa.string()),
        pa.field("who", pa.string()),
        pa.field("host", pa.string()),
        pa.field("started_at", _TIME),
        pa.field("ended_at", _TIME),
        pa.field("function", pa.string()),
        pa.field("code_hash", pa.string()),
        pa.field("declared_version", pa.string()),
        pa.field("generation", pa.int32()),
        pa.field("arguments", pa.string()),
        pa.field("inputs", pa.list_(pa.string())),
        pa.field("all_inputs", pa.list_(pa.string())),
        pa.field("inputs_digest", pa.string()),
        pa.field("packages", pa.map_(pa.string(), pa.string())),
        pa.field("git_commit", pa.string()),
        pa.field("options", pa.string()),
        *(
            pa.field(f"num_{what}", pa.int64())
            for what in ("rows", "filled", "failed", "skipped", "computed", "resumed")
        ),
        pa.field("nbytes_written", pa.int64()),
        pa.field("from_version", pa.int64()),
        pa.field("versions", pa.list_(pa.int64())),
        pa.field("files", pa.map_(pa.string(), pa.string())),
        pa.field("error", pa.string()),
    ]
)


@dataclass
class Run:
    """A run that is going on.

    Parameters
    ----------
    id
        Sorts by the time it began.
    """

    id: str
    _entries: Mapping[Location, dict[str, Any]] = field(repr=False)

    def committed(self, version: int | None, files: Mapping[str, str], so_far: BackfillResult) -> None:
        """Note a commit.

        Parameters
        ----------
        version
            What it became.
        files
            SHA-256 of each data file, in hexadecimal digits, by the path the manifest has.
        so_far
            What the run did up to here.
        """
        for entry in self._entries.values():
            entry["versions"].append(version)
            entry["files"].update(files)
        self.note(**asdict(so_far))

    def finished(self, result: BackfillResult) -> None:
        """Note that nothing is left to do."""
        self.note(**asdict(result), state="done", ended_at=_now(), leases=None)

    def note(self, **news: Any) -> None:
        """Write the log anew with what is known by now."""
        for folder, entry in self._entries.items():
            entry.update((name, value) for name, value in news.items() if name != "version")
            # What is nothing is left out: the log of a small column must not weigh more than the column.
            told = {name: value for name, value in entry.items() if value}
            folder.write_bytes(f"{self.id}{_SUFFIX}", gzip.compress(json.dumps(told).encode(), mtime=0))


@contextmanager
def begin(
    snapshot: Snapshot, made_by: Sequence[tuple[Feature, UDF | None]], options: Options, leases: Collection[str]
) -> Iterator[Run]:
    """Keep the log of one run while the block runs; it ends with `Run.finished`, or failed.

    Parameters
    ----------
    snapshot
        The version that is computed from.
    made_by
        The features that are filled, each with its function; None for an SQL expression.
    options
        What was asked for.
    leases
        The ids of the leases it holds; while one of them is held, the run is going on.
    """
    common = {
        "state": "running",
        "who": commit.author(),
        "host": socket.gethostname(),
        "leases": list(leases),
        "options": json.dumps(_chosen(options), default=_told) if _chosen(options) else None,
        "from_version": snapshot.version,
    }
    entries: dict[Location, dict[str, Any]] = {
        _log(snapshot.lake, snapshot.name).child(feature.token): {
            **common,
            **_made(snapshot, feature, udf),
            "versions": [],
            "files": {},
        }
        for feature, udf in made_by
    }
    run = Run(f"{dt.datetime.now(dt.UTC):{_BEGAN}}-{uuid.uuid4().hex[:8]}", entries)
    run.note()
    try:
        yield run
    except BaseException as error:  # Ctrl-C too: the run's record says how it ended
        stopped = isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)
        state = "stopped" if stopped else "failed"
        run.note(state=state, ended_at=_now(), leases=None, error=str(error))
        raise


def read(lake: Location, table: str, token: str | None = None) -> pa.Table:
    """Return the runs of a table, oldest first, a row for each feature a run filled.

    Parameters
    ----------
    lake, table
        Whose.
    token
        Only the feature with this token; None means all.

    Returns
    -------
    pyarrow.Table
        Of schema `RUNS`. `state` is ``running``, ``done``, ``failed`` or ``stopped``; `who` began it; `function` is
        ``module:qualname`` or the SQL expression; `inputs_digest` identifies the stored values of the inputs it was
        computed from; `files` gives the SHA-256 of each data file it committed.
    """
    log = _log(lake, table)
    running = {owner.id for owner in holders(layout.side(lake).child("leases").child(table)).values()}
    rows = []
    for of in [token] if token else log.listdir():
        folder = log.child(of)
        for name in folder.listdir():
            entry = _read(folder, name)
            if entry is not None:
                rows.append(_row(name.removesuffix(_SUFFIX), entry, running))
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["run"]), schema=RUNS)


def _made(snapshot: Snapshot, feature: Feature, udf: UDF | None) -> dict[str, Any]:
    """Say what a feature is made by and from."""
    above = upstream(snapshot.features, snapshot.field_ids, feature)
    inputs = [input_names(each, snapshot.field_ids) for each in (feature, *above)]
    target = udf.target if udf else None
    return {
        "columns": list(feature.columns),
        "function": feature.source,
        "code_hash": feature.code_hash,
        "declared_version": udf.version if udf else None,
        "generation": feature.generation,
        "arguments": None if feature.arguments is None else json.dumps(feature.arguments, sort_keys=True),
        "inputs": inputs[0],
        "all_inputs": list(dict.fromkeys(name for names in inputs for name in names)),
        "inputs_digest": _digest(snapshot, feature),
        "packages": environment.packages(target),
        "git_commit": environment.git_commit(target),
    }


def _digest(snapshot: Snapshot, feature: Feature) -> str:
    ids = checkpoints.input_ids(snapshot.dataset, feature)
    prints = sorted(checkpoints.fingerprint(fragment, ids) for fragment in snapshot.dataset.get_fragments())
    return hashlib.sha256(json.dumps(prints).encode()).hexdigest()[:32]


def _row(run: str, entry: dict[str, Any], running: set[str]) -> dict[str, Any]:
    if entry["state"] == "running" and not running & set(entry["leases"]):
        entry["state"] = "stopped"
    began = dt.datetime.strptime(run.partition("-")[0], _BEGAN).replace(tzinfo=dt.UTC)
    ended = dt.datetime.fromisoformat(entry["ended_at"]) if "ended_at" in entry else None
    numbers = {each.name: entry.get(each.name, 0) for each in RUNS if each.name.startswith(("num_", "nbytes_"))}
    maps = {name: list(entry.get(name, {}).items()) for name in ("files", "packages")}
    known = {"run": run, "started_at": began, "ended_at": ended, **maps, **numbers}
    return {"versions": [], **entry, **known}


def _read(folder: Location, name: str) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(gzip.decompress(folder.read_bytes(name)))
    except FileNotFoundError:  # the table was dropped at this moment
        return None
    return entry


def _log(lake: Location, table: str) -> Location:
    return layout.side(lake).child("runs").child(table)


def _chosen(options: Options) -> dict[str, Any]:
    """Return what was asked for otherwise than by default, and matters to what came of it."""
    given = {each: getattr(options, each.name) for each in fields(options) if each.name != "progress"}
    return {each.name: value for each, value in given.items() if value != each.default}


def _told(value: Any) -> Any:
    """Name an executor by its class."""
    return type(value).__name__


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()
