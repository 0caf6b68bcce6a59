"""The report as one self-contained HTML page: no scripts, no network, light and dark, screen and paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from distillery.planning.stages import CANDIDATE
from distillery.report.charts import arms_chart, rounds_chart

_HINTS_SHOWN = 30


def percent(value: float | None) -> str:
    """A fraction as a percentage with one decimal; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}"


def points(value: float) -> str:
    """A difference of fractions in points, with its sign."""
    return f"{100 * value:+.1f}"


def p_value(value: float) -> str:
    """A p-value with two significant digits, never as 0."""
    return "< 1e-15" if value < 1e-15 else f"{value:.2g}"


def duration(seconds: float | None) -> str:
    """Seconds in a person's units."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def render_page(report: Mapping[str, Any]) -> str:
    """The page of a report. Every text in it is escaped: hints are written by models."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distillery.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "p": p_value, "duration": duration}
    return environment.get_template("page.html.jinja").render(
        report=report,
        hints=report["hints"][:_HINTS_SHOWN],
        candidate=CANDIDATE,
        arms_chart=arms_chart(report["arms"], highlight=CANDIDATE) if report["arms"] else "",
        rounds_chart=rounds_chart(report["rounds"]) if len(report["rounds"]) > 1 else "",
    )
