"""The checks before a run starts: each names the field, its value and the fix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distillery.core.api import parse
from distillery.core.api.rules import warning_of
from distillery.preflight.checks import check, power_line
from distillery.preflight.facts import EnvironmentFacts, Facts, PluginFacts, gather
from distillery.preflight.inspect import inspect
from tests.unit.documents import document
from tests.unit.environments.conftest import registered as registered

HOUSE = EnvironmentFacts("house", "test", {"train": 300, "test": 100}, {}, reads_facts=True)
INSTALLED = {
    "environments": ["alfworld", "house"],
    "agents": ["plain", "react"],
    "extractors": ["llm", "rules"],
    "retrievers": ["embedding", "none", "random"],
    "samplers": ["fresh"],
    "trainers": ["lora"],
}
ENDPOINT = {"baseURL": "http://host/v1", "model": "m", "apiKeySecretRef": {"name": "openai", "key": "token"}}


def tasks(**fields: Any) -> dict[str, Any]:
    return {"name": "house", "tasks": {"train": 200, "evaluate": 100} | fields}


def problems(findings: EnvironmentFacts = HOUSE, *, gpu: bool | None = None, **spec: Any) -> list[str]:
    facts = Facts(INSTALLED, PluginFacts({}, findings), gpu=gpu)
    return [str(problem) for problem in check(parse(document(**{"environment": tasks()} | spec)).spec, facts)]


def test_preflight_passes_when_nothing_is_wrong():
    assert problems() == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"environment": tasks() | {"name": "hous"}},
            'spec.environment.name: "hous": no environment of this name is installed; did you mean house?',
        ),
        (
            {"hints": {"extractor": "gpt4"}},
            'spec.hints.extractor: "gpt4": no extractor of this name is installed; known here: llm, rules',
        ),
        (
            {"environment": tasks(evaluateSplit="valid")},
            'spec.environment.tasks.evaluateSplit: "valid": '
            "there is no split 'valid' of house; there are train, test",
        ),
        (
            {"environment": tasks(train=6000)},
            "spec.environment.tasks.train: 6000: house has 300 tasks in the split train; write at most that",
        ),
        (
            {"environment": tasks(evaluate=101)},
            "spec.environment.tasks.evaluate: 101: house has 100 tasks in the split test; write at most that",
        ),
        (
            {"environment": tasks(evaluate=101, evaluateSplit="train")},
            "spec.environment.tasks.evaluate: 101: house has 100 tasks left in the split train; write at most that",
        ),
        (
            {"environment": tasks(evaluate=5)},
            "spec.environment.tasks.evaluate: 5: 5 held-out tasks can never promote a student: with 95 % confidence "
            "the gate needs 6 at least; write more, or spec.promotion.policy: Never",
        ),
    ],
)
def test_preflight_names_field_value_and_fix(spec: dict[str, Any], expected: str):
    assert problems(**spec) == [expected]


def test_preflight_accepts_few_tasks_when_nothing_is_to_be_promoted():
    assert problems(environment=tasks(evaluate=2), promotion={"policy": "Never"}) == []


def test_preflight_requires_a_split_when_the_environment_has_no_default():
    (problem,) = problems(replace(HOUSE, held_out_split=""))
    assert problem == (
        "spec.environment.tasks.evaluateSplit: is missing; house has no default: name the split of the held-out tasks: "
        "train, test"
    )


def test_preflight_requires_an_extractor_when_the_miner_would_find_nothing():
    unread = replace(HOUSE, reads_facts=False)
    (problem,) = problems(unread)
    assert problem.startswith("spec.models.extractor: is missing; house has no method `read`")
    models = {"student": {"model": "/models/tiny"}, "extractor": {"endpoint": ENDPOINT}}
    assert problems(unread, models=models) == []


@pytest.mark.parametrize(("gpu", "refused"), [(False, True), (True, False), (None, False)])
def test_preflight_refuses_nf4_when_this_machine_has_no_gpu(gpu: bool | None, refused: bool):
    findings = problems(
        gpu=gpu,
        training={"quantization": "nf4"},
        stages={"train": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}},
    )
    assert [problem.split(":")[0] for problem in findings] == ["spec.training.quantization"] * refused


def test_gather_finds_missing_models_and_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DISTILLERY_SECRETS", str(tmp_path))
    models = {
        "student": {"model": str(tmp_path / "none")},
        "teacher": {"model": str(tmp_path)},
        "extractor": {"endpoint": ENDPOINT},
    }
    spec = parse(document(models=models)).spec
    facts = gather(spec, PluginFacts(), gpu=None)
    assert facts.model_errors["spec.models.student.model"].endswith("there is no such folder")
    assert "config.json is no model configuration" in facts.model_errors["spec.models.teacher.model"]
    assert "no such file" in facts.secret_errors["spec.models.extractor.endpoint.apiKeySecretRef"]
    (tmp_path / "openai").mkdir()
    (tmp_path / "openai" / "token").write_text("x")
    assert gather(spec, PluginFacts(), gpu=None).secret_errors == {}


@pytest.mark.parametrize(
    ("environment", "field", "message"),
    [
        ({"name": "fake", "options": {"broken": "configuration"}}, "spec.environment.options", "no good"),
        ({"name": "fake", "options": {"broken": "constructor"}}, "spec.environment.name", "ZeroDivisionError: oh"),
        ({"name": "broken"}, "spec.environment.name", "can't be loaded: ModuleNotFoundError"),
        ({"name": "alfworld", "options": {"size": 3}}, "spec.environment.options", "no option 'size'"),
    ],
)
def test_inspect_turns_what_plugins_raise_into_errors(environment: dict[str, Any], field: str, message: str):
    findings = inspect(parse(document(environment=environment)).spec, trainer=False)
    assert findings.environment is None
    assert message in findings.errors[field]


def test_inspect_counts_the_tasks_when_nothing_has_to_be_prepared():
    findings = inspect(parse(document(environment={"name": "counted"})).spec, trainer=False)
    assert findings.environment is not None
    assert findings.environment.splits == {"train": 10}
    assert "there is no split 'held'; there is train" in findings.environment.split_errors["held"]
    assert not findings.environment.reads_facts


def test_inspect_knows_alfworlds_splits_before_prepare():
    findings = inspect(parse(document(environment={"options": {"games": "generated"}})).spec, trainer=False)
    assert findings.environment is not None
    assert findings.environment.splits == {"train": None, "valid_seen": None, "valid_unseen": None}
    assert (findings.environment.held_out_split, findings.environment.reads_facts) == ("valid_unseen", True)


def test_power_line_says_what_the_tasks_can_show():
    spec = parse(document()).spec
    assert power_line(spec).startswith("power: 134 held-out tasks can show a difference of 12 points")
    assert power_line(parse(document(promotion={"gate": {"metric": "score"}})).spec) == ""


def test_warning_is_given_when_only_the_model_servers_ask_for_a_gpu():
    asked = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    assert warning_of(parse(document(modelServer=asked)).spec).startswith("Warning: spec.modelServer.resources")
    assert warning_of(parse(document(modelServer=asked, stages={"train": asked})).spec) == ""
    assert warning_of(parse(document()).spec) == ""
