"""The arms of a report as a table: for the terminal, and as Markdown for other documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillery.core.planner.graph import BASELINE
from distillery.formatting import p_value, percent, points

COLUMNS = ("arm", "n", "success %", "95 % interval", "vs baseline", "p", "steps", "tokens")


def rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of cells for every arm of the last round."""
    versus_base = {c["a"]: c for c in report["comparisons"] if c["b"] == BASELINE}
    made = []
    for name, arm in report["arms"].items():
        against = versus_base.get(name)
        made.append(
            (
                name,
                str(arm["n"]),
                percent(arm["success"]),
                f"{percent(arm['ci'][0])} - {percent(arm['ci'][1])}",
                points(against["difference"]) if against else "",
                p_value(against["p"]) if against else "",
                f"{arm['steps']:.1f}",
                f"{arm['tokens']:,.0f}",
            )
        )
    return made


def markdown(report: Mapping[str, Any]) -> str:
    """Format the table in Markdown with what it is about: the verdict, and the source of the tasks."""
    lines = [" | ".join(COLUMNS), "|".join(["---", *["---:"] * (len(COLUMNS) - 1)]), *map(" | ".join, rows(report))]
    where, gate = report["environment"], report["gate"]
    told = f"Tasks: {where['source']}, split {where['split']}. {gate['verdict']}. {gate['reason']}"
    return "\n".join([*(f"| {line} |" for line in lines), "", told])
