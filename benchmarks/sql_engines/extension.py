"""DuckDB 1.5.5 with its Lance extension, in an environment of its own: neither loads beside DuckDB 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from benchmarks.harness import Arm
from benchmarks.harness.environment import NUM_THREADS
from benchmarks.harness.trial import REPOSITORY
from benchmarks.sql_engines.engine import Answered, answer
from benchmarks.sql_statements import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_PACKAGES = ("duckdb==1.5.5", "duckdb-extension-lance==1.5.5", "pyarrow==26.0.1", "numpy==2.4.6")


class Extension:
    """The same lake, read by the extension; `answer` asks in another Python."""

    arm: ClassVar[Arm] = Arm(
        "DuckDB 1.5.5, its lance extension", "peer", "connection open, in an environment of its own"
    )
    layout: ClassVar[str] = "lake"

    def __init__(self, folder: Path) -> None:
        import duckdb
        import duckdb_extension_lance  # type: ignore[import-not-found]  # in the other environment only

        self.connection = duckdb.connect(config={"threads": NUM_THREADS})
        (binary,) = Path(duckdb_extension_lance.__file__).parent.rglob("lance.duckdb_extension")
        self.connection.execute(f"LOAD '{binary}'")
        for path in sorted((folder / "lake").glob("*.lance")):
            self.connection.execute(f"CREATE VIEW {path.stem} AS FROM '{path}'")

    def ask(self, text: str) -> pa.Table:
        return self.connection.sql(text).to_arrow_table()


def environment(folder: Path) -> Path:
    """Return the Python of the other environment, made once under `folder`."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", *_PACKAGES], check=True)
        (folder / "ready").write_text("\n".join(_PACKAGES))
    return python


def answer_elsewhere(
    python: Path, folder: Path, statements: Sequence[Statement], num_repeats: int, budget_s: float
) -> list[Answered]:
    """Do as `answer` does in the other environment."""
    asked = {"folder": str(folder), "statements": [asdict(each) for each in statements]}
    asked |= {"num_repeats": num_repeats, "budget_s": budget_s}
    with tempfile.TemporaryDirectory() as told:
        path = Path(told) / "answered.json"
        command = [python, "-m", "benchmarks.sql_engines.extension", json.dumps(asked), str(path)]
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the extension's process ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return [Answered(**each) for each in json.loads(path.read_text())]


def main(asked: str, path: str) -> None:
    """Answer what `answer_elsewhere` asks."""
    given = json.loads(asked)
    statements = [Statement(**each) for each in given["statements"]]
    engine = Extension(Path(given["folder"]))
    found = answer(engine.ask, statements, given["num_repeats"], given["budget_s"])
    Path(path).write_text(json.dumps([asdict(each) for each in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
