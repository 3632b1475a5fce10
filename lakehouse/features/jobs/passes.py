"""Which features are filled together: those that are computed from the same columns and not from one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakehouse.schema.lineage import Feature

__all__ = ["passes"]


def passes(features: Sequence[Feature], field_ids: Mapping[str, int]) -> list[list[Feature]]:
    """Return the features in passes, inputs before what is computed from them.

    Functions that share an input make one pass, in which it is read and decoded once. An SQL expression is one by
    itself: Lance computes it while it reads.

    Raises
    ------
    SchemaError
        Features are computed from one another.

    Examples
    --------
    >>> from lakehouse.schema.lineage import Feature
    >>> def made(name, kind, *inputs):
    ...     return Feature((name,), kind, "", inputs, "", 1, "", "", name)
    >>> features = [made("big", "sql", 3), made("area", "udf", 1, 2), made("ratio", "udf", 2), made("size", "udf", 9)]
    >>> [[f.name for f in together] for together in passes(features, {"area": 3, "ratio": 4, "size": 5, "big": 6})]
    [['area', 'ratio'], ['size'], ['big']]
    """
    found: list[list[Feature]] = []
    for level in _levels(features, field_ids):
        functions = [feature for feature in level if feature.kind == "udf"]
        found += _sharing(functions)
        found += [[feature] for feature in level if feature not in functions]
    return found


def _levels(features: Sequence[Feature], field_ids: Mapping[str, int]) -> list[list[Feature]]:
    levels = []
    waiting = list(features)
    while waiting:
        ids = {field_ids[name] for feature in waiting for name in feature.columns}
        ready = [feature for feature in waiting if not ids & set(feature.inputs)]
        if not ready:
            raise SchemaError(f"{', '.join(f.name for f in waiting)} are computed from one another; drop one of them")
        levels.append(ready)
        waiting = [feature for feature in waiting if feature not in ready]
    return levels


def _sharing(features: Sequence[Feature]) -> list[list[Feature]]:
    """Put features together that have an input in common, directly or through others."""
    groups: list[list[Feature]] = []
    for feature in features:
        own = [group for group in groups if any(set(feature.inputs) & set(each.inputs) for each in group)]
        joined = [*(each for group in own for each in group), feature]
        groups = [group for group in groups if group not in own] + [joined]
    return groups
