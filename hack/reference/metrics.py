"""The page of the metrics and alerts, from the calls that define them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hack.reference.markdown import code, page, paragraph, table
from hack.reference.source import Module, name_callee, text_of

_KINDS = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "Summary": "summary", "Info": "info"}
_COMPONENTS = {"operator": "Operator", "gateway": "Gateway", "pipeline": "Stages"}
"""The headings of the modules of each distribution."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of Prometheus."""

    name: str
    kind: str
    labels: tuple[str, ...]
    description: str


def render(modules: Sequence[Module], alerts: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        modules: The sources.
        alerts: The alert rules of the chart.
    """
    blocks = [
        paragraph(
            "All metrics are in Prometheus' text format. Histograms have the series `_bucket`, `_sum` and `_count`. "
            "The chart's value `serviceMonitor.enabled` collects them, and `networkPolicy.metricsFrom` names who may."
        )
    ]
    for module in modules:
        if rows := [_row(metric) for metric in list_metrics(module)]:
            heading = _COMPONENTS.get(module.path.partition("/")[0], module.path)
            blocks += [f"## {heading}", f"The source is {code(module.path)}."]
            blocks.append(table(["metric", "type", "labels", "description"], rows))
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    blocks += [
        "## Alerts",
        "The chart's value `alerts.enabled` installs these rules.",
        table(["alert", "severity", "after", "summary", "expression"], map(_alert, rules)),
    ]
    return page("Metrics", *blocks)


def list_metrics(module: Module) -> Iterator[Metric]:
    """Yield the metrics that a module defines, in its order."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or name_callee(node) not in _KINDS or len(node.args) < 2:
            continue
        name, description = (text_of(argument, module.constants) for argument in node.args[:2])
        if name is None or description is None:
            continue
        kind = _KINDS[name_callee(node)]
        labels = node.args[2] if len(node.args) > 2 else None
        labels = next((keyword.value for keyword in node.keywords if keyword.arg == "labelnames"), labels)
        given = labels.elts if isinstance(labels, ast.List | ast.Tuple) else []
        names = tuple(text_of(label, module.constants) or "..." for label in given)
        suffix = "_total" if kind == "counter" and not name.endswith("_total") else ""
        yield Metric(name + suffix, kind, names, description)


def _row(metric: Metric) -> list[str]:
    return [code(metric.name), metric.kind, ", ".join(code(label) for label in metric.labels), metric.description]


def _alert(rule: Mapping[str, Any]) -> list[str]:
    expression = " ".join(rule["expr"].split())
    severity, summary = rule["labels"]["severity"], rule["annotations"]["summary"]
    return [code(rule["alert"]), severity, rule.get("for", "at once"), summary, code(expression)]
