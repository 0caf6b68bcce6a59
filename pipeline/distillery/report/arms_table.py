"""The arms of a report as a table: for the terminal, and as Markdown for other documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillery.core.planner.plays import find_reference
from distillery.formatting import format_p_value, format_percent, format_points

COLUMNS = ("arm", "n", "success %", "95 % interval", "vs base", "p", "steps", "tokens")


def build_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of cells for every arm of the last round."""
    reference = find_reference(report["arms"])
    versus_base = {c["a"]: c for c in report["comparisons"] if c["b"] == reference}
    cells = []
    for name, arm in report["arms"].items():
        against = versus_base.get(name)
        cells.append(
            (
                name,
                str(arm["n"]),
                format_percent(arm["success"]),
                f"{format_percent(arm['ci'][0])} - {format_percent(arm['ci'][1])}",
                format_points(against["difference"]) if against else "",
                format_p_value(against["p"]) if against and against["p"] is not None else "",
                f"{arm['steps']:.1f}",
                f"{arm['tokens']:,.0f}",
            )
        )
    return cells


def format_markdown(report: Mapping[str, Any]) -> str:
    """Format the table in Markdown with what it is about: the verdict, and the source of the tasks."""
    rule = "|".join(["---", *["---:"] * (len(COLUMNS) - 1)])
    lines = [" | ".join(COLUMNS), rule, *map(" | ".join, build_rows(report))]
    where, gate = report["environment"], report["gate"]
    facts = f"Tasks: {where['source']}, split {where['split']}. {gate['verdict']}. {gate['reason']}"
    return "\n".join([*(f"| {line} |" for line in lines), "", facts])
