"""The report's plots, as SVG that takes the page's colors and comes in two widths: for a phone, and for more room."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from distillery.core.planner.plays import BASELINE, find_reference

# Stand-ins that are replaced by CSS colors in the finished SVG.
_INK, _ACCENT, _QUIET, _WARM, _LINE = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_COLORS = {
    _INK: "var(--ink)",
    _ACCENT: "var(--accent)",
    _QUIET: "var(--quiet)",
    _WARM: "var(--warm)",
    _LINE: "var(--line)",
}

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: readable, selectable, small
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _LINE,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

# Inches; a phone's plots have their labels above the lines instead of next to them.
_WIDE, _NARROW = 7.4, 3.5

_WORK = (
    ("play", _ACCENT, ("rollout", "teach", "evaluate")),
    ("training", _WARM, ("train",)),
    ("the rest", _QUIET, ("prepare", "sample", "hints", "judge", "promote")),
)


class _NoteStyle(NamedTuple):
    """The color and the weight of a note."""

    color: str
    weight: str = "normal"


class _NotePosition(NamedTuple):
    """The position of a note next to its point: an offset in points, and the alignment of the text."""

    offset: tuple[int, int]
    align: str


_ABOVE, _RIGHT, _LEFT = _NotePosition((0, 6), "center"), _NotePosition((5, 0), "left"), _NotePosition((-5, 0), "right")


def draw_arms(arms: Mapping[str, Mapping[str, Any]], *, highlight: str) -> str:
    """Draw the success of each arm with its interval, a line an arm."""
    names = list(arms)[::-1]

    def draw(axes: Axes, narrow: bool) -> None:
        if (reference := find_reference(arms)) in arms:
            axes.axvline(100 * arms[reference]["success"], color=_QUIET, linewidth=1, linestyle=(0, (3, 3)))
        for place, name in enumerate(names):
            arm = arms[name]
            style = _NoteStyle(_ACCENT, "bold") if name == highlight else _NoteStyle(_INK)
            low, high = (100 * bound for bound in arm["ci"])
            rate = 100 * arm["success"]
            axes.plot([low, high], [place, place], color=style.color, linewidth=2, solid_capstyle="round")
            axes.plot([rate], [place], "o", color=style.color, markersize=5 if narrow else 6)
            if narrow:
                _label_above(axes, place, f"{name}  {rate:.1f}", style)
            else:
                _write_note(axes, f"{rate:.1f}", (rate, place), _ABOVE, style)
        _draw_rows(axes, names, narrow, highlight)
        axes.set_xlim(0, 102)
        axes.set_xlabel("success, %")
        axes.grid(axis="x")

    shown = "; ".join(
        f"{name} {100 * arm['success']:.1f} %, {100 * arm['ci'][0]:.1f} to {100 * arm['ci'][1]:.1f}"
        for name, arm in arms.items()
    )
    return _render("arms", draw, rows=len(names), description=f"Success of each arm with its 95 % interval: {shown}.")


def draw_rounds(rounds: Sequence[Mapping[str, Any]], *, candidate: str) -> str:
    """Draw the success over rounds: the base model, the model each round started with, and its candidate."""
    series = [
        (label, color, marker, [(r["round"], r["arms"][arm]) for r in rounds if (arm := find(r["arms"])) in r["arms"]])
        for find, label, color, marker in (
            (find_reference, "base", _QUIET, "s"),
            (lambda _: BASELINE, "started with", _INK, "o"),
            (lambda _: candidate, candidate, _ACCENT, "D"),
        )
    ]

    def draw(axes: Axes, narrow: bool) -> None:
        for shift, (label, color, marker, points) in zip((-0.05, 0.0, 0.05), series, strict=True):
            numbers = [number + shift for number, _ in points]
            rates = [100 * arm["success"] for _, arm in points]
            errors = [
                [100 * (arm["success"] - arm["ci"][0]) for _, arm in points],
                [100 * (arm["ci"][1] - arm["success"]) for _, arm in points],
            ]
            axes.errorbar(numbers, rates, yerr=errors, color=color, marker=marker, capsize=3, label=label)
        axes.set_xticks([r["round"] for r in rounds])
        axes.set_xlim(rounds[0]["round"] - 0.3, rounds[-1]["round"] + 0.3)
        axes.set_xlabel("round")
        axes.set_ylabel("success, %")
        axes.set_ylim(0, 102)
        axes.grid(axis="y")
        axes.figure.legend(loc="outside upper left", ncols=3, frameon=False)

    shown = "; ".join(
        f"round {number}, {label}: {100 * arm['success']:.1f} %"
        for label, _, _, points in series
        for number, arm in points
    )
    return _render("rounds", draw, rows=7, description=f"Success over rounds with 95 % intervals: {shown}.")


def draw_stages(stages: Sequence[Mapping[str, Any]], *, notes: Sequence[str]) -> str:
    """Draw when each stage ran, as a Gantt chart, with a note at each bar."""
    began = min(datetime.fromisoformat(stage["started"]) for stage in stages)
    spans = [
        ((datetime.fromisoformat(stage["started"]) - began).total_seconds(), stage["seconds"] or 0.0)
        for stage in stages
    ]
    whole = max(start + length for start, length in spans) or 1.0
    unit, seconds = next((u for u in (("hours", 3600), ("minutes", 60)) if whole > 2 * u[1]), ("seconds", 1))

    def draw(axes: Axes, narrow: bool) -> None:
        last = len(stages) - 1
        for index, (stage, (start, length), note) in enumerate(zip(stages, spans, notes, strict=True)):
            place, left, right = last - index, start / seconds, (start + length) / seconds
            color = next(color for _, color, kinds in _WORK if stage["kind"] in kinds)
            axes.barh(
                place,
                max(right - left, 0.004 * whole / seconds),
                left=left,
                height=0.2 if narrow else 0.5,
                color=color,
            )
            if narrow:
                _label_above(axes, place, f"{stage['name']}  {note.removesuffix(' tokens')}", _NoteStyle(_INK))
            elif right < 0.6 * whole / seconds:
                _write_note(axes, note, (right, place), _RIGHT, _NoteStyle(_INK))
            else:
                _write_note(axes, note, (left, place), _LEFT, _NoteStyle(_INK))
        _draw_rows(axes, [stage["name"] for stage in reversed(stages)], narrow)
        axes.set_xlim(0, 1.02 * whole / seconds)
        axes.set_xlabel(f"{unit} since the start")
        axes.grid(axis="x")
        axes.figure.legend(
            handles=[Patch(color=color, label=label) for label, color, _ in _WORK],
            loc="outside upper left",
            ncols=3,
            frameon=False,
            handlelength=1.2,
        )

    shown = "; ".join(f"{stage['name']} {note}" for stage, note in zip(stages, notes, strict=True))
    return _render("stages", draw, rows=len(stages), description=f"When each stage ran, in order of start: {shown}.")


def _draw_rows(axes: Axes, names: Sequence[str], narrow: bool, highlight: str = "") -> None:
    """Draw a row for each name, the first at the bottom."""
    axes.set_ylim(-0.6, len(names) - 0.2)
    axes.set_yticks(range(len(names)), [""] * len(names) if narrow else list(names))
    axes.tick_params(length=0)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        if name == highlight:
            label.set(color=_ACCENT, fontweight="bold")
    if narrow:
        axes.spines["left"].set_visible(False)


def _label_above(axes: Axes, place: float, text: str, style: _NoteStyle) -> None:
    """Write a row's label above its line."""
    axes.annotate(
        text,
        (0, place),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        xytext=(1, 6),
        fontsize=9,
        color=style.color,
        fontweight=style.weight,
        in_layout=False,
    )


def _write_note(axes: Axes, text: str, at: tuple[float, float], position: _NotePosition, style: _NoteStyle) -> None:
    """Write a note at a point."""
    axes.annotate(
        text,
        at,
        textcoords="offset points",
        xytext=position.offset,
        ha=position.align,
        va="center" if position.offset[0] else "baseline",
        fontsize=9,
        color=style.color,
        fontweight=style.weight,
    )


def _render(name: str, draw: Callable[[Axes, bool], None], *, rows: int, description: str) -> str:
    """Return the plot for wide and for narrow pages; the style sheet shows one of them."""
    plots = []
    for width, form, height in ((_WIDE, "wide", 0.27), (_NARROW, "narrow", 0.38)):
        with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{name}-{form}"}):
            figure = Figure(figsize=(width, height * rows + 0.9), layout="constrained")
            draw(figure.subplots(), form == "narrow")
            plots.append(_render_svg(figure, form, description))
    return "\n".join(plots)


def _render_svg(figure: Figure, form: str, description: str) -> str:
    """Return the plot as SVG with the page's colors."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every plot; what is referred to has names of its own
    text = re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ?', "", text, count=1)  # the view box scales with the page
    for stand_in, color in _COLORS.items():
        text = text.replace(stand_in, color)
    return text.replace("<svg", f'<svg class="{form}" role="img" aria-label="{html.escape(description)}"', 1)
