"""Which columns are computed, from what, and what becomes stale with what: all from the schema's own metadata.

A feature is one or more columns filled together and one stamp column, ``<first>__stamp``. The stamp's field metadata
holds the feature's record; a random token ties the columns to the stamp, because Lance gives the field id of a
dropped column to the next one, and a number behind it says which output each is. Inputs are kept as field ids, so a
rename breaks nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.errors import UnsupportedTableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import pyarrow as pa

STAMP_SUFFIX = "__stamp"
STAMP = b"lakehouse:stamp"  # on a stamp: its token
TOKEN = b"lakehouse:column"  # on a feature's column: the token of its stamp, ":", its place among the outputs
FEATURE = b"lakehouse:feature"  # on a stamp: the record, as JSON

TODO = 0
"""The stamp of a row whose value was never computed or is no longer true. A NULL stamp means the same; what is
written is 0, because mixed NULLs cost 200 KB per 100 k rows and zeros 11 to 15 KB."""

Kind = Literal["udf", "sql", "data"]


@dataclass(frozen=True)
class Feature:
    """How a feature is made.

    Parameters
    ----------
    columns
        The columns it fills, first one first.
    kind
        ``"udf"``, ``"sql"``, or ``"data"`` for values that came from elsewhere and that nothing computes.
    source
        ``module:qualname`` of the function, or the SQL expression.
    inputs
        Lance field ids of the columns it is computed from.
    code_hash
        What the function was when this generation was declared.
    generation
        Counts the declarations: 1 is the first; a changed function is the next one.
    owner
        Who declared it.
    declared_at
        When, as ISO 8601 in UTC.
    token
        Ties stamp and columns.
    arguments
        What the function's class was called with; None for a plain function or an expression.
    label
        What a feature of several columns was called when it was declared; another word for any of them.
    called
        What the inputs were called when it was declared.
    num_columns
        How many columns were declared; fewer are there if somebody dropped one by other means.
    oldest, oldest_before
        The oldest generation whose values are true, now and before the last change of the function.
    since
        The version it was declared on; nothing that was written before can have touched it.
    stamp_name
        The stamp's column where it is not named after the first column, which is gone then.
    """

    columns: tuple[str, ...]
    kind: Kind
    source: str
    inputs: tuple[int, ...]
    code_hash: str
    generation: int
    owner: str
    declared_at: str
    token: str
    arguments: dict[str, Any] | None = field(default=None, hash=False)
    label: str | None = None
    called: tuple[str, ...] = ()
    num_columns: int = 1
    oldest: int = 1
    oldest_before: int = 1
    since: int = 0
    stamp_name: str | None = None

    @property
    def name(self) -> str:
        """The first column."""
        return self.columns[0]

    @property
    def stamp(self) -> str:
        """The stamp's column name."""
        return self.stamp_name or self.columns[0] + STAMP_SUFFIX

    @property
    def done(self) -> int:
        """The stamp of a row that holds a value of this generation."""
        return 2 * self.generation

    @property
    def failed(self) -> int:
        """The stamp of a row where this generation failed."""
        return 2 * self.generation + 1

    @property
    def true_from(self) -> int:
        """The lowest stamp of a row that is filled, or failed, as the function is now."""
        return 2 * self.oldest

    def record(self) -> bytes:
        """Return the JSON kept in the stamp's field metadata; names and token are in the schema already."""
        raw = asdict(self)
        del raw["columns"], raw["token"], raw["stamp_name"]
        return json.dumps(raw, sort_keys=True).encode()

    def column_token(self, place: int) -> bytes:
        """Return the field metadata that ties a column to the stamp."""
        return f"{self.token}:{place}".encode()

    def altered(self, **made_by: Any) -> Feature:
        """Return the next generation, made by a changed function."""
        now = self.generation + 1
        return replace(self, generation=now, oldest=now, oldest_before=self.oldest, **made_by)

    def accepted(self) -> Feature:
        """Return the feature with the values from before the last change declared true."""
        return replace(self, oldest=self.oldest_before)


def features_of(physical: pa.Schema) -> dict[str, Feature]:
    """Return the features of a table by their first column.

    Parameters
    ----------
    physical
        The schema as Lance has it, stamps included.

    Raises
    ------
    UnsupportedTableError
        A record written by a newer release.
    """
    columns: dict[str, list[tuple[int, str]]] = {}
    for each in physical:
        token, _, place = (each.metadata or {}).get(TOKEN, b"").decode().partition(":")
        if token:
            columns.setdefault(token, []).append((int(place or 0), each.name))
    found = {}
    for each in physical:
        metadata: Mapping[bytes, bytes] = each.metadata or {}
        token = metadata.get(STAMP, b"").decode()
        own = tuple(name for _, name in sorted(columns.get(token, [])))
        if FEATURE not in metadata or not own:  # nobody's stamp: its columns were dropped by other means
            continue
        feature = _parse(metadata[FEATURE], own, token)
        if feature.stamp != each.name:
            feature = replace(feature, stamp_name=each.name)
        found[feature.name] = feature
    return found


def orphaned_stamps(physical: pa.Schema) -> list[str]:
    """Return the stamps that no column belongs to, because it was dropped by other means."""
    stamps = {feature.stamp for feature in features_of(physical).values()}
    return [each.name for each in physical if STAMP in (each.metadata or {}) and each.name not in stamps]


@lru_cache(maxsize=1024)
def _parse(record: bytes, columns: tuple[str, ...], token: str) -> Feature:
    """Remember what was parsed: every attempt of every commit looks at the schema anew."""
    raw: dict[str, Any] = json.loads(record)
    try:
        raw = {**raw, "inputs": tuple(raw["inputs"]), "called": tuple(raw["called"])}
        return Feature(**raw, columns=columns, token=token)
    except (TypeError, KeyError) as error:
        raise UnsupportedTableError(
            f"the feature {columns[0]!r} was declared by a newer release; upgrade with: pip install -U lance-lakehouse"
        ) from error


def dependents(
    features: Mapping[str, Feature], field_ids: Mapping[str, int], changed: Collection[str]
) -> list[Feature]:
    """Return the features that are no longer true when `changed` columns change, direct ones before transitive ones.

    Examples
    --------
    >>> area = Feature(("area",), "sql", "w * h", (1, 2), "", 1, "", "", "t1")
    >>> big = Feature(("big",), "sql", "area > 9", (3,), "", 1, "", "", "t2")
    >>> [f.name for f in dependents({"area": area, "big": big}, {"w": 1, "h": 2, "area": 3}, ["w"])]
    ['area', 'big']
    """
    stale: dict[str, Feature] = {}
    front = {field_ids[name] for name in changed}
    while front:
        hit = [f for f in features.values() if f.name not in stale and front & set(f.inputs)]
        stale |= {feature.name: feature for feature in hit}
        front = {field_ids[name] for feature in hit for name in feature.columns if name in field_ids}
    return list(stale.values())


def upstream(features: Mapping[str, Feature], field_ids: Mapping[str, int], feature: Feature) -> list[Feature]:
    """Return the features that a feature is computed from, direct ones before transitive ones.

    Examples
    --------
    >>> area = Feature(("area",), "sql", "w * h", (1, 2), "", 1, "", "", "t1")
    >>> big = Feature(("big",), "sql", "area > 9", (3,), "", 1, "", "", "t2")
    >>> [f.name for f in upstream({"area": area, "big": big}, {"w": 1, "h": 2, "area": 3}, big)]
    ['area']
    """
    found: dict[str, Feature] = {}
    front = set(feature.inputs)
    while front:
        hit = [f for f in features.values() if front & {field_ids.get(name) for name in f.columns}]
        hit = [f for f in hit if f.name not in found]
        found |= {each.name: each for each in hit}
        front = {field_id for each in hit for field_id in each.inputs}
    return list(found.values())


def feature_columns(features: Mapping[str, Feature]) -> tuple[str, ...]:
    """Return all columns that some feature fills."""
    return tuple(name for feature in features.values() for name in feature.columns)


def owner_of(features: Mapping[str, Feature], column: str) -> Feature | None:
    """Return the feature that fills a column, or that was declared under this label."""
    owners = (feature for feature in features.values() if column in feature.columns)
    return next(owners, None) or next((feature for feature in features.values() if feature.label == column), None)


def with_token(features: Mapping[str, Feature], token: str) -> Feature | None:
    """Return a feature by what does not change when it is renamed; None if it was dropped."""
    return next((feature for feature in features.values() if feature.token == token), None)


def input_names(feature: Feature, field_ids: Mapping[str, int]) -> list[str]:
    """Return the present names of a feature's inputs."""
    names = {field_id: name for name, field_id in field_ids.items()}
    return [names[field_id] for field_id in feature.inputs if field_id in names]


def dependents_by_column(
    features: Mapping[str, Feature], field_ids: Mapping[str, int], columns: Iterable[str]
) -> dict[str, list[str]]:
    """Return, for each column, the features computed from it directly."""
    return {
        name: users
        for name in columns
        if name in field_ids and (users := [f.name for f in features.values() if field_ids[name] in f.inputs])
    }
