"""The figures of the team test as a table: `tests/soak/test_soak_team.py` keeps them, mode by mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.harness.estimate import short

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLUMNS = {
    "num_fills": "fills",
    "least_fills_a_writer": "least a writer",
    "num_versions": "versions",
    "num_versions_read": "versions read",
    "num_lost_column": "lost columns",
    "num_lost_cell": "lost cells",
    "num_wrong_cell": "wrong cells",
    "num_stale_mark_missing": "stale marks missing",
    "num_duplicate_rows": "duplicate rows",
    "computed_per_needed": "rows computed ÷ needed",
}


def to_markdown(content: Mapping[str, Any]) -> str:
    """Write the table and what it holds for.

    Examples
    --------
    >>> about = {"command": "make soak", "host": {"cpu": "a", "cores": 2}, "versions": {"pylance": "14.0.2"}}
    >>> quiet = dict.fromkeys(_COLUMNS, 0) | {"num_writers": 2, "seconds": 90}
    >>> print(to_markdown({**about, "figures": {"quiet": quiet}}).splitlines()[-3])
    | quiet | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 1.5 |
    """
    figures, host = content["figures"], content["host"]
    head = ["while others work", *_COLUMNS.values(), "minutes"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for mode, found in figures.items():
        lines.append([mode, *(short(found[name]) for name in _COLUMNS), short(found["seconds"] / 60)])
    num_writers = max(found["num_writers"] for found in figures.values())
    remarks = [f"{mode}: {found['remark']}. " for mode, found in figures.items() if "remark" in found]
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items())
    about = f"{num_writers} processes, each filling a column of its own of one table, commit by commit"
    return "\n".join(
        [
            f"**The team test.** {about}. What a reader saw meanwhile and at the end:",
            "",
            *(f"| {' | '.join(cells)} |" for cells in lines),
            "",
            f"<sub>{''.join(remarks)}`{content['command']}`; {host['cpu']}, {host['cores']} cores, shared; {versions}.</sub>",
        ]
    )
