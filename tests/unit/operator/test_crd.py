"""What the API server is told of the resource. What it makes of that is in tests/e2e/test_admission.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distillery.api import InvalidRun
from distillery.api.promotion import GatewayLimits
from distillery_operator.crd import crd, text
from distillery_operator.manifests import database
from distillery_operator.manifests.gateway import CANARY
from distillery_operator.status_schema import MOST_HISTORY
from tests.unit.operator.test_manifests import owner

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    (version,) = crd()["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]


def frozen(schema: dict[str, Any]) -> set[str]:
    """The fields that can't change."""
    rules = schema["spec"]["x-kubernetes-validations"]
    return {rule["fieldPath"].removeprefix(".") for rule in rules if "oldSelf" in rule["rule"]}


def test_the_files_are_what_the_types_say():
    for path in ("crds/distillery.dev_distillationruns.yaml", "charts/distillery/files/crd.yaml"):
        assert (ROOT / path).read_text() == text()


def test_what_is_served_can_change_and_what_is_learnt_can_not(schema: dict[str, Any]):
    fields = frozen(schema)
    assert {"models", "rounds", "training", "promotion.policy", "promotion.weights"} <= fields
    assert not {"suspend", "promotion", "promotion.round", "promotion.service", "promotion.canary"} & fields
    assert {field.partition(".")[0] for field in fields} | {"suspend", "ttlSecondsAfterFinished"} == set(
        schema["spec"]["properties"]
    )


def test_null_in_parameters_is_kept_by_the_api_server(schema: dict[str, Any]):
    endpoint = schema["spec"]["properties"]["models"]["properties"]["extractor"]["properties"]["endpoint"]
    values = endpoint["properties"]["parameters"]["additionalProperties"]
    assert values == {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}


def test_a_round_beyond_the_last_is_refused_at_once(schema: dict[str, Any]):
    (rule,) = (r for r in schema["spec"]["x-kubernetes-validations"] if r["fieldPath"] == ".promotion.round")
    assert rule["rule"] == "!has(self.promotion.round) || self.promotion.round <= self.rounds.max"
    served = schema["spec"]["properties"]["promotion"]["properties"]["round"]
    assert (served["minimum"], "default" in served) == (0, False)


def test_a_name_that_belongs_to_what_another_run_has_is_refused():
    (version,) = crd()["spec"]["versions"]
    _, rule = version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    assert rule["rule"] == "!self.metadata.name.endsWith('-canary') && !self.metadata.name.endsWith('-database')"
    for made in (CANARY.named(owner("a")), database.name(owner("a"))):
        with pytest.raises(InvalidRun, match=r"metadata\.name: .*: choose a name that does not end in -canary"):
            owner(made)


def test_the_gateways_settings_are_bounded(schema: dict[str, Any]):
    service = schema["spec"]["properties"]["promotion"]["properties"]["service"]["properties"]
    gateway = service["gateway"]["properties"]
    limits = gateway["limits"]["properties"]
    assert set(limits) == {field.alias for field in GatewayLimits.model_fields.values()}
    for bounds in limits.values():
        assert {"minimum", "maximum"} <= bounds.keys()
    assert gateway["deniedParameters"]["maxItems"] == 32
    assert gateway["keysSecretRef"]["required"] == ["name"]


def test_the_history_in_the_status_is_bounded(schema: dict[str, Any]):
    history = schema["status"]["properties"]["serving"]["properties"]["history"]
    assert history["maxItems"] == MOST_HISTORY
