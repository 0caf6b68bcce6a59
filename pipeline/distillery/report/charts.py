"""The report's plots, as SVG that takes the page's colours: text and lines follow light and dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Stand-ins that are replaced by CSS colours in the finished SVG.
_INK, _ACCENT, _QUIET = "#010203", "#040506", "#070809"
_COLOURS = {_INK: "var(--ink)", _ACCENT: "var(--accent)", _QUIET: "var(--quiet)"}

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: readable, selectable, small
    "svg.hashsalt": "distillery",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def arms_chart(arms: Mapping[str, Mapping[str, Any]], *, highlight: str) -> str:
    """Success of each arm with its interval, a line an arm."""
    names = list(arms)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 0.42 * len(names) + 0.9))
        axes = figure.subplots()
        for place, name in enumerate(reversed(names)):
            arm = arms[name]
            colour = _ACCENT if name == highlight else _INK
            low, high = (100 * bound for bound in arm["ci"])
            axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([100 * arm["success"]], [place], "o", color=colour, markersize=7)
            axes.annotate(
                f"{100 * arm['success']:.1f}",
                (100 * arm["success"], place),
                textcoords="offset points",
                xytext=(0, 7),
                ha="center",
                fontsize=9,
                color=colour,
            )
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.set_ylim(-0.6, len(names) - 0.3)
        axes.set_xlim(0, 102)
        axes.set_xlabel("success, % of held-out tasks (95 % Wilson interval)")
        axes.grid(axis="x", color=_QUIET, alpha=0.3)
        axes.tick_params(length=0)
        return _svg(figure, "Success of each arm with its 95 % interval; the numbers stand in the table below.")


def rounds_chart(rounds: Sequence[Mapping[str, Any]]) -> str:
    """Success over rounds: the model each round started with, and its candidate."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.8))
        axes = figure.subplots()
        for arm, colour, marker in (("base", _INK, "o"), ("distilled", _ACCENT, "D")):
            points = [(r["round"], r["arms"][arm]) for r in rounds if arm in r["arms"]]
            numbers = [number for number, _ in points]
            rates = [100 * a["success"] for _, a in points]
            errors = [
                [100 * (a["success"] - a["ci"][0]) for _, a in points],
                [100 * (a["ci"][1] - a["success"]) for _, a in points],
            ]
            label = "started with" if arm == "base" else "distilled"
            axes.errorbar(numbers, rates, yerr=errors, color=colour, marker=marker, capsize=3, label=label)
        axes.set_xticks([r["round"] for r in rounds])
        axes.set_xlabel("round")
        axes.set_ylabel("success, %")
        axes.set_ylim(0, 102)
        axes.grid(axis="y", color=_QUIET, alpha=0.3)
        axes.legend(frameon=False)
        return _svg(figure, "Success over rounds with 95 % intervals; the numbers stand in the tables.")


def _svg(figure: Figure, description: str) -> str:
    buffer = io.StringIO()
    figure.savefig(
        buffer,
        format="svg",
        transparent=True,
        bbox_inches="tight",
        metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, colour in _COLOURS.items():
        text = text.replace(stand_in, colour)
    width = re.search(r'width="([\d.]+)pt" height="[\d.]+pt"', text)
    if width:
        text = text.replace(width.group(0), "", 1)  # the view box alone scales with the page
    return text.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)
