"""The definition of the resource. How the API server applies it is in tests/e2e/api/test_admission.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from distillery.core.api import InvalidRun, Spec
from distillery.core.api.learned import ARGUMENTS, GROWING, MUTABLE
from distillery.core.api.spec.serving import GatewayLimits
from distillery_operator.crd.generate import crd, text
from distillery_operator.crd.status_schema import MAX_HISTORY
from distillery_operator.manifests import database
from distillery_operator.manifests.gateway import CANARY
from tests.paths import ROOT
from tests.unit.operator.manifests.test_manifests import owner


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    (version,) = crd()["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]


@pytest.fixture(scope="module")
def transitions() -> dict[str, str]:
    """The rules of what can't change, by the path of the field."""
    (version,) = crd()["spec"]["versions"]
    rules = version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    return {rule["fieldPath"].removeprefix(".spec."): rule["rule"] for rule in rules if "oldSelf" in rule["rule"]}


def test_crd_files_match_the_types():
    for path in ("crds/distillery.dev_distillationruns.yaml", "charts/distillery/files/crd.yaml"):
        assert (ROOT / path).read_text() == text()


def test_description_of_each_field_of_the_status_begins_with_its_name(schema: dict[str, Any]):
    found = list(described(schema["status"], "status"))
    assert len(found) > 80
    for path, description in found:
        name = path.rpartition(".")[2]
        assert description.startswith(f"{name} "), path
        for sentence in re.split(r"(?<=\.)\s+", description):
            assert 4 <= len(sentence.split()) <= 25, f"{path}: {sentence}"
            assert sentence.endswith("."), f"{path}: {sentence}"


def described(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """The fields below a path, with their descriptions."""
    for name, part in schema.get("properties", {}).items():
        field = f"{path}.{name}"
        yield field, part.get("description", "")
        yield from described(part, field)
        yield from described(part.get("items", {}), field)


def test_crd_makes_learned_fields_immutable_and_no_others(schema: dict[str, Any], transitions: dict[str, str]):
    """Every leaf of the specification is either under a rule or in a field that may change."""
    fixed = set(transitions) - {ARGUMENTS, "storage.volumeClaim.size"}
    assert not [field for field in fixed if any(f"{field}.".startswith(f"{path}.") for path in MUTABLE)]
    loose = [
        leaf
        for leaf in leaves(schema["spec"], "")
        if not any(f"{leaf}.".startswith(f"{path}.") for path in (*fixed, *MUTABLE, ARGUMENTS))
    ]
    assert loose == []
    assert {"rollout.temperature", "models.student.model", "training.seed", "environment.options"} <= fixed


def leaves(schema: dict[str, Any], path: str) -> Iterator[str]:
    """The fields that have no fields."""
    for name, part in schema["properties"].items():
        field = f"{path}.{name}" if path else name
        yield from leaves(part, field) if "properties" in part else [field]


OF_DATABASE = ("database.dsnSecretRef", "database.size")


def test_crd_allows_every_change_when_only_prepare_started(transitions: dict[str, str]):
    """But for what the operator makes at once."""
    always = {path for path, rule in transitions.items() if not rule.startswith("(!has(self.status) || ")}
    assert always == {
        *OF_DATABASE,
        "storage.volumeClaim.storageClassName",
        "storage.volumeClaim.accessMode",
        "storage.volumeClaim.size",
    }


def test_crd_allows_held_out_tasks_to_grow(transitions: dict[str, str]):
    field = "spec.environment.tasks.evaluate"
    assert transitions["environment.tasks.evaluate"].endswith(f" || self.{field} >= oldSelf.{field}")


def test_crd_compares_optional_parts_by_their_presence(transitions: dict[str, str]):
    rule = transitions["models.teacher.endpoint.model"]
    here = "has(self.spec.models.teacher) && has(self.spec.models.teacher.endpoint)"
    before = here.replace("self", "oldSelf")
    same = "self.spec.models.teacher.endpoint.model == oldSelf.spec.models.teacher.endpoint.model"
    assert rule.endswith(f" || ({here}) == ({before}) && (!({here}) || {same})")


def test_spec_documents_every_field_that_can_change():
    documented = " ".join((Spec.__doc__ or "").split())
    named = [p for p in (*MUTABLE, *GROWING) if "SecretRef" not in p and not p.startswith("rollout.")]
    assert [path for path in named if f"``{path}``" not in documented] == []


def test_crd_has_a_rule_for_a_bound_that_is_no_whole_number(schema: dict[str, Any]):
    gate = schema["spec"]["properties"]["promotion"]["properties"]["gate"]["properties"]
    (rule,) = gate["confidence"]["x-kubernetes-validations"]
    assert rule == {"rule": "self >= 0.5", "message": "must be >= 0.5"}
    assert "x-kubernetes-validations" not in gate["minImprovement"]


def test_crd_has_a_rule_for_a_pattern_of_keys(schema: dict[str, Any]):
    selector = schema["spec"]["properties"]["podTemplate"]["properties"]["nodeSelector"]
    (rule,) = selector["x-kubernetes-validations"]
    assert rule["rule"].startswith('self.all(key, key.matches("^')


def test_crd_preserves_null_in_parameters(schema: dict[str, Any]):
    endpoint = schema["spec"]["properties"]["models"]["properties"]["extractor"]["properties"]["endpoint"]
    values = endpoint["properties"]["parameters"]["additionalProperties"]
    assert values == {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}


def test_crd_refuses_a_pinned_round_that_exceeds_max_rounds(schema: dict[str, Any]):
    (rule,) = (r for r in schema["spec"]["x-kubernetes-validations"] if r["fieldPath"] == ".serving.pinnedRound")
    assert rule["rule"] == "!has(self.serving.pinnedRound) || self.serving.pinnedRound <= self.rounds.maxRounds"
    served = schema["spec"]["properties"]["serving"]["properties"]["pinnedRound"]
    assert (served["minimum"], "default" in served) == (0, False)


def test_crd_refuses_a_name_that_ends_as_a_derived_object_does():
    (version,) = crd()["spec"]["versions"]
    _, rule, *_ = version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    assert rule["rule"] == "!self.metadata.name.endsWith('-canary') && !self.metadata.name.endsWith('-database')"
    for made in (CANARY.resource_name(owner("a")), database.name(owner("a"))):
        with pytest.raises(InvalidRun, match=r"metadata\.name: .*: choose a name that does not end in -canary"):
            owner(made)


def test_gateways_settings_are_bounded(schema: dict[str, Any]):
    service = schema["spec"]["properties"]["serving"]["properties"]
    gateway = service["gateway"]["properties"]
    limits = gateway["limits"]["properties"]
    assert set(limits) == {field.alias for field in GatewayLimits.model_fields.values()}
    for bounds in limits.values():
        assert {"minimum", "maximum"} <= bounds.keys()
    assert gateway["deniedParameters"]["maxItems"] == 32
    assert gateway["apiKeysSecretRef"]["required"] == ["name"]


def test_history_in_the_status_is_bounded(schema: dict[str, Any]):
    history = schema["status"]["properties"]["serving"]["properties"]["history"]
    assert history["maxItems"] == MAX_HISTORY


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """The path and the description of every field below a part of the schema."""
    for name, part in schema.get("properties", {}).items():
        below = f"{path}.{name}"
        yield below, part.get("description", "")
        for inner in (part, part.get("items", {}), part.get("additionalProperties") or {}):
            yield from fields(inner, below)


def sentences(description: str) -> list[str]:
    """The sentences of a description, without what stands in parentheses."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z0-9`])", re.sub(r"\s*\([^)]*\)", "", description))


def faults(name: str, description: str) -> Iterator[str]:
    first, *others = sentences(description)
    if first.split()[:1] != [name]:
        yield f"begin with {name}"
    if len(first.split()) < 4:
        yield "write at least 4 words"
    if not description.endswith("."):
        yield "end with a full stop"
    for sentence in (first, *others):
        if len(sentence.split()) > 25:
            yield f"{len(sentence.split())} words are more than 25: {sentence}"


def test_descriptions_begin_with_the_name_and_are_short_sentences(schema: dict[str, Any]):
    described = list(fields({"properties": {part: schema[part] for part in ("spec", "status")}}, ""))
    assert len(described) > 200
    found = [f"{path}: {fault}" for path, text in described for fault in faults(path.rpartition(".")[2], text)]
    assert not found, "\n".join(found)
