"""Results as a picture: a panel a figure, a row an arm, a marker a case, the interval as a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.harness import Results
    from benchmarks.presentation import Figure, Presentation

# Okabe and Ito's palette, which colour-blind readers can tell apart; the markers say the case without colour.
_COLOURS = {"ours": "#0072b2", "bound": "#000000", "plain": "#d55e00", "peer": "#009e73", "footnote": "#999999"}
_MARKERS = ("o", "s", "^", "D")
_ROW_INCHES = 0.36
_WIDTH_INCHES = 9.0


def draw(results: Results, shown: Presentation, path: Path) -> None:
    """Write the picture as SVG to `path`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context():
        # Text stays text, and two runs on the same results write the same file.
        mpl.rcParams["svg.fonttype"] = "none"
        mpl.rcParams["svg.hashsalt"] = "lakehouse"
        mpl.rcParams["font.size"] = 9
        canvas = Canvas(figsize=(_WIDTH_INCHES, 1.2 + _ROW_INCHES * len(results.arms)), layout="constrained")
        panels = canvas.subplots(1, len(shown.panels), sharey=True, squeeze=False)[0]
        for axes, figure in zip(panels, shown.panels, strict=True):
            _draw_panel(axes, results, figure)
        _name_arms(panels[0], results)
        handles, labels = panels[-1].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        canvas.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(axes: Axes, results: Results, figure: Figure) -> None:
    for marker, case in zip(_MARKERS, results.cases, strict=False):
        axes.plot([], [], marker, color="#555555", label=case)
        for row, (name, arm) in enumerate(results.arms.items()):
            if not results.has(name, case):
                continue
            found = figure.of(results, name, case)
            if found.value <= 0:  # nothing counted, as with reads through a memory map: no place on a logarithm
                continue
            spread = [[found.value - found.low], [found.high - found.value]]
            axes.errorbar(found.value, row, xerr=spread, fmt=marker, color=_COLOURS[arm.role], markersize=5, alpha=0.85)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(figure.words)
    axes.grid(axis="x", which="major", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name_arms(axes: Axes, results: Results) -> None:
    axes.set_yticks(range(len(results.arms)), [arm.title for arm in results.arms.values()])
    axes.set_ylim(len(results.arms) - 0.5, -0.5)  # the first arm on top
    for label, arm in zip(axes.get_yticklabels(), results.arms.values(), strict=True):
        label.set_color(_COLOURS[arm.role])
