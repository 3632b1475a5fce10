"""Figures of a soak as JSON beside those of the benchmarks, with the machine and versions they hold for."""

import json
import os
from pathlib import Path

from benchmarks.harness import environment

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY / "benchmarks" / "data"


def save(name, figures):
    """Merge `figures` into ``benchmarks/results/<name>.json``: parts of a soak can be run on their own."""
    path = REPOSITORY / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    DATA.mkdir(exist_ok=True)
    before = json.loads(path.read_text()).get("figures", {}) if path.exists() else {}
    about = {
        "command": "make soak",
        "host": environment.host(DATA),
        "versions": environment.versions(),
        "load_average": list(os.getloadavg()),
    }
    path.write_text(json.dumps({**about, "figures": {**before, **figures}}, indent=2) + "\n")
