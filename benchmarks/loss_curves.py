"""The losses of a training that was killed and resumed over those of one that was not: ``python -m benchmarks.loss_curves``.

Runs ``examples/08_resume_killed_training.py`` and draws what it wrote down.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.command import RESULTS
from benchmarks.harness.trial import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLE = REPOSITORY / "examples" / "08_resume_killed_training.py"
_DIED_AFTER = re.compile(r'\("killed", (\d+)\)')
_RESUMED_AFTER = re.compile(r"goes on after (\d+) batches")


def draw(whole: Sequence[float], killed: Sequence[float], died_after: int, resumed_after: int, path: Path) -> None:
    """Write both curves as SVG to `path`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        # As in `plot`: text stays text, and the same losses write the same file.
        mpl.rcParams["svg.fonttype"] = "none"
        mpl.rcParams["svg.hashsalt"] = "lakehouse"
        mpl.rcParams["font.size"] = 9
        canvas = Figure(figsize=(7.0, 2.8), layout="constrained")
        axes = canvas.subplots()
        batches = range(1, len(whole) + 1)
        axes.plot(batches, whole, color="#0072b2", linewidth=4, alpha=0.35, label="nobody killed it")
        axes.plot(batches, killed, color="#d55e00", linewidth=1, label="killed and resumed")
        axes.axvline(died_after, color="#555555", linestyle=":", linewidth=1)
        axes.annotate(
            f"SIGKILL after {died_after}; goes on from {resumed_after}",
            (died_after, max(whole)),
            (4, -4),
            textcoords="offset points",
        )
        axes.set_xlabel("batch")
        axes.set_ylabel("loss")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        canvas.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, str(_EXAMPLE)], cwd=folder, capture_output=True, text=True, check=True)
        whole, killed = (torch.load(Path(folder) / f"{run}.pt")["losses"] for run in ("whole", "killed"))
    died = max(int(batches) for batches in _DIED_AFTER.findall(_EXAMPLE.read_text()))
    resumed = _RESUMED_AFTER.search(done.stdout)
    assert resumed is not None, done.stdout
    path = RESULTS / "loss_curves.svg"
    draw(whole, killed, died, int(resumed[1]), path)
    print(done.stdout, end="")
    print(f"saved {path}")


if __name__ == "__main__":
    main()
