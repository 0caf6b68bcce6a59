"""The report as one self-contained HTML page: no scripts, no network, light and dark, screen and paper."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jinja2

from distillery.core.planner.plays import BASELINE
from distillery.formatting import (
    compute_cached_share,
    format_clock,
    format_count,
    format_duration,
    format_p_value,
    format_percent,
    format_points,
    format_short,
    format_time,
)
from distillery.report.charts import draw_arms, draw_rounds, draw_stages
from distillery.report.pairs import clip

# A page stays small however long the run was.
_HINTS_SHOWN, _STAGES_SHOWN = 30, 60


_ARMS = {
    "baseline": "the model that the round started with",
    "base": "the untouched base model",
    "rag": "the base model with retrieved hints",
    "placebo": "the base model with random hints",
    "sft": "learned from successes without hints, in each round its own",
    "distilled": "learned from the teacher's successes, hints removed",
    "placebo-distilled": "learned from the successes of a teacher with random hints",
}
_SUFFIXES = {
    "-matched": "the same tasks, and equally many episodes of each",
    "-unfiltered": "failures too",
    "+rag": "with retrieved hints",
}


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write ``report.json`` and ``report.html``."""
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(render_page(report), encoding="utf-8")


def render_page(report: Mapping[str, Any]) -> str:
    """Render the page of a report. Every text in it is escaped: hints and episodes are written by models."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("distillery.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "percent": format_percent,
        "points": format_points,
        "p": format_p_value,
        "duration": format_duration,
        "count": format_count,
        "short": format_short,
        "cached": compute_cached_share,
        "clip": clip,
        "moment": format_time,
        "place": shorten_path,
        "value": lambda value: json.dumps(value, ensure_ascii=False),
    }
    environment.filters.update(filters)
    stages = report["stages"][-_STAGES_SHOWN:]
    judged, candidate = report["confirm"] or report, report["candidate"]
    return environment.get_template("page.html.jinja").render(
        report=report,
        hints=report["hints"][:_HINTS_SHOWN],
        stages=stages,
        candidate=candidate,
        legend=build_legend(report["arms"]),
        judged=judged,
        gain=next((c for c in judged["comparisons"] if (c["a"], c["b"]) == (candidate, BASELINE)), None),
        arms_chart=draw_arms(report["arms"], highlight=candidate) if report["arms"] else "",
        rounds_chart=draw_rounds(report["rounds"], candidate=candidate) if len(report["rounds"]) > 1 else "",
        stages_chart=draw_stages(stages, notes=[_describe_cost(stage) for stage in stages]),
    )


def build_legend(arms: Collection[str]) -> list[tuple[str, str]]:
    """Return the arms that were played and the suffixes of their names, each with its meaning."""
    used = [suffix for suffix in _SUFFIXES if any(arm.endswith(suffix) for arm in arms)]
    names = {_drop_suffix(arm) for arm in arms}
    return [
        *((arm, text) for arm, text in _ARMS.items() if arm in names),
        *((suffix, _SUFFIXES[suffix]) for suffix in used),
    ]


def shorten_path(model: str) -> str:
    """Return a model's name, or the end of its path. The settings have all of it."""
    return "/".join(["…", *Path(model).parts[-2:]]) if len(Path(model).parts) > 3 and model.startswith("/") else model


def _drop_suffix(arm: str) -> str:
    return next((arm.removesuffix(suffix) for suffix in _SUFFIXES if arm.endswith(suffix)), arm)


def _describe_cost(stage: Mapping[str, Any]) -> str:
    """Return the note at a stage's bar: its duration and its tokens."""
    tokens = stage["tokens"]
    used = tokens["prompt"] + tokens["completion"] if tokens else stage["tokensRead"]
    took = format_clock(stage["seconds"]) if stage["seconds"] is not None else stage["phase"]
    return f"{took} · {format_short(used)} tokens" if used else took
