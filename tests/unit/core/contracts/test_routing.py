"""The routing document has one form for its writer and its reader, which no release may change."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from distillery.core.contracts.routing import Adapter, InvalidRoutingConfig, RoutingConfig, Target

STUDENT = Adapter("student-abcdef012345", "r1-train-distilled", "abcdef0123456789")
STEP = "2026-12-01T00:00:00Z"

STABLE = (
    RoutingConfig(4081633415, (STUDENT,), {"test": (Target("student-abcdef012345", student="abcdef012345"),)}),
    '{"generation": 4081633415, "adapters": [{"name": "student-abcdef012345", "artifact": "r1-train-distilled", '
    '"digest": "abcdef0123456789"}], "aliases": {"test": [{"model": "student-abcdef012345", "student": '
    '"abcdef012345"}]}}',
)
CANARY = (
    RoutingConfig(
        3065153203,
        (),
        {
            "test": (
                Target("test", 90, student="base"),
                Target("test", 10, "http://test-canary.team.svc:8000", "abcdef012345"),
            )
        },
        step=STEP,
        max_first_token_seconds=5.0,
    ),
    '{"generation": 3065153203, "adapters": [], "aliases": {"test": [{"model": "test", "student": "base", "weight": '
    '90}, {"model": "test", "student": "abcdef012345", "upstream": "http://test-canary.team.svc:8000", "weight": '
    '10}]}, "step": "2026-12-01T00:00:00Z", "maxFirstTokenSeconds": 5.0}',
)
SHADOW = (
    RoutingConfig(
        256181203,
        (STUDENT,),
        {"test": (Target("base", student="base"),)},
        {"test": Target("student-abcdef012345", student="abcdef012345")},
        STEP,
        5.0,
    ),
    '{"generation": 256181203, "adapters": [{"name": "student-abcdef012345", "artifact": "r1-train-distilled", '
    '"digest": "abcdef0123456789"}], "aliases": {"test": [{"model": "base", "student": "base"}]}, "step": '
    '"2026-12-01T00:00:00Z", "maxFirstTokenSeconds": 5.0, "shadows": {"test": {"model": "student-abcdef012345", '
    '"student": "abcdef012345"}}}',
)


@pytest.mark.parametrize(("config", "text"), [STABLE, CANARY, SHADOW])
def test_routing_document_has_the_form_of_the_first_release(config: RoutingConfig, text: str):
    assert config.dump() == text
    assert RoutingConfig.parse(text) == config
    assert replace(config, generation=0).with_generation() == config


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"aliases": {}}',
        '{"generation": 4, "aliases": {"bot": [{"modle": "x"}]}}',
        '{"generation": 4, "shadows": {"bot": "newer"}}',
    ],
)
def test_routing_document_is_rejected_when_it_is_malformed(text: str):
    with pytest.raises(InvalidRoutingConfig):
        RoutingConfig.parse(text)


def test_routing_document_is_read_when_its_writer_is_newer():
    target, adapter = {"model": "x"}, {"name": "a", "artifact": "b", "digest": "c"}
    current = {"generation": 4, "aliases": {"bot": [target]}, "adapters": [adapter]}
    more = {"speculation": True}
    newer = {**current, **more, "aliases": {"bot": [target | more]}, "adapters": [adapter | more]}
    assert RoutingConfig.parse(json.dumps(newer)) == RoutingConfig.parse(json.dumps(current))


def test_routing_document_has_a_default_for_slow_requests():
    assert RoutingConfig.parse('{"generation": 1, "maxFirstTokenSeconds": 2.5}').max_first_token_seconds == 2.5
    assert RoutingConfig.parse('{"generation": 1}').max_first_token_seconds == 10
