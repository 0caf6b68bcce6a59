"""The reference of the repository. `make check` compares the committed pages with the code."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry

from distillery_gateway.metrics import Metrics as GatewayMetrics
from distillery_operator.metrics import Metrics as OperatorMetrics
from hack.reference import conditions, metrics
from hack.reference.source import modules
from tests.paths import ROOT

REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize(
    ("folder", "registry"),
    [
        ("gateway/distillery_gateway", GatewayMetrics().registry),
        ("operator/distillery_operator", OperatorMetrics().registry),
    ],
)
def test_metrics_page_lists_the_registry(folder: str, registry: CollectorRegistry):
    listed = {
        metric.name.removesuffix("_total") for one in modules(ROOT, folder) for metric in metrics.list_metrics(one)
    }
    assert listed == {family.name for family in registry.collect() if family.name.startswith("distillery_")}


def test_every_condition_has_a_reason():
    text = (REFERENCE / "conditions.md").read_text()
    for name in conditions.MEANINGS:
        section = re.split(r"^## ", text.partition(f"\n## {name}\n")[2], flags=re.MULTILINE)[0]
        assert "| reason | status | meaning |" in section, name


def test_reference_lists_events_and_http_errors():
    events = (REFERENCE / "conditions.md").read_text().partition("## Events")[2]
    assert {"`StageStarted`", "`StageSucceeded`", "`StageFailed`"} <= set(
        re.findall(r"^\| (`\w+`)", events, re.MULTILINE)
    )
    errors = (REFERENCE / "http-api.md").read_text().partition("## Errors")[2]
    assert {"400", "401", "404", "413", "429", "503"} <= set(re.findall(r"^\| (\d+) \|", errors, re.MULTILINE))
