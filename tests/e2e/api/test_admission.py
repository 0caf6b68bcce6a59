"""The API server refuses what can't work, with the field and the fix."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillery.core.api.rules import RULES
from hack.testbed.client.api import Api
from tests.e2e.support.documents import small
from tests.e2e.support.generated import (
    ENDPOINT,
    KNOWN_DIFFERENCES,
    RULE_CASES,
    STUDENT,
    documents,
    refuses,
    rules_of_fields,
)
from tests.e2e.support.runs import Runs, space
from tests.unit.docs.test_examples import EXAMPLES, FOLDER

pytestmark = pytest.mark.api

_AT_ONCE = 8  # requests of the comparison: most of their time is the server's


@pytest.fixture(scope="module")
def users(api: Api) -> Generator[Runs]:
    with space(api, "e2e-admission") as made:
        yield made


@pytest.mark.parametrize(
    ("rule", "broken"),
    [(rule, breaks) for rule, (breaks, _) in zip(RULES, RULE_CASES, strict=True)],
    ids=[rule.path for rule in RULES],
)
def test_api_server_enforces_every_rule(users: Runs, rule: Any, broken: dict[str, Any]):
    message = users.refusal(small(**broken))
    assert rule.fix in message
    assert rule.path in message
    others = [other for other in RULES if other.fix != rule.fix and f"{other.path}: {other.fix}" in message]
    assert not others


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"environmnet": {}}, 'unknown field "spec.environmnet"'),
        ({"environment": {"maxSteps": 0}}, "spec.environment.maxSteps"),
        ({"environment": {"maxSteps": "50"}}, "spec.environment.maxSteps"),
        ({"promotion": {"policy": "Always"}}, 'Unsupported value: "Always"'),
        ({"models": {}}, "spec.models.student"),
        ({"storage": {"volumeClaim": {"size": "20 gigabytes"}}}, "spec.storage.volumeClaim.size"),
        # the server's own bounds let whole numbers pass, and it has none for keys
        ({"promotion": {"gate": {"confidence": 0}}}, "spec.promotion.gate.confidence"),
        ({"podTemplate": {"nodeSelector": {"no key!": "gpu"}}}, "spec.podTemplate.nodeSelector"),
    ],
)
def test_api_server_names_each_field_that_is_wrong(users: Runs, spec: dict[str, Any], message: str):
    assert message in users.refusal(small(**spec))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_example_is_accepted(users: Runs, path: Path):
    document = yaml.safe_load(path.read_text())
    document["metadata"].pop("namespace", None)
    made = users.api.create(users.collection, document, dryRun="All", fieldValidation="Strict")
    assert made["metadata"]["name"] == document["metadata"]["name"]


def test_long_name_is_refused(users: Runs):
    assert "at most 40 characters" in users.refusal(small("a" * 41))


def test_name_with_dots_is_refused(users: Runs):
    assert "may not have dots" in users.refusal(small("team.run"))


def test_api_server_and_python_judge_generated_runs_alike(users: Runs):
    runs = documents()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(users.judge, runs))
    differ = [(run, answer) for run, answer in zip(runs, answers, strict=True) if bool(answer) != refuses(run)]
    assert differ == []
    refused = "\n".join(answers)
    assert [rule.fix for rule in RULES if f"{rule.path}: {rule.fix}" not in refused] == []
    assert [path for path, _ in rules_of_fields() if f"spec.{path}: Invalid value" not in refused] == []


@pytest.mark.parametrize("spec", KNOWN_DIFFERENCES, ids=lambda spec: next(iter(spec)))
def test_python_rejects_more_when_it_differs_from_the_api_server(users: Runs, spec: dict[str, Any]):
    run = small(**spec)
    assert refuses(run)
    assert users.judge(run) == ""


@pytest.mark.parametrize("name", ["small-canary", "small-database"])
def test_api_server_refuses_a_name_that_ends_as_a_derived_object_does(users: Runs, name: str):
    assert "may not end in -canary or -database" in users.refusal(small(name))


def test_learned_fields_are_immutable_once_a_stage_started(users: Runs):
    """The run is suspended almost always, and never starts: its database's Secret is not there."""
    secret = {"name": "none", "key": "none"}
    endpoint = {**ENDPOINT, "apiKeySecretRef": secret}
    models = {"student": STUDENT, "extractor": {"endpoint": endpoint}}
    arguments = ["--max-model-len=4096", "--max-num-seqs=8"]
    run = small(
        "fixed", suspend=True, database={"dsnSecretRef": secret}, models=models, modelServer={"extraArgs": arguments}
    )
    run["spec"]["environment"]["options"] = {"games": "generated"}
    users.apply(run)

    def patch(spec: dict[str, Any]) -> str:
        return users.patch("fixed", spec)

    def report(stage: str) -> None:
        status = {"status": {"stages": [{"name": stage, "phase": "Running"}]}}
        users.api.merge(f"{users.collection}/fixed/status", status)

    # before a stage has started all can change but for what was made at once
    assert patch({"rounds": {"maxRounds": 3}}) == ""
    report("prepare")
    assert patch({"rounds": {"maxRounds": 2}, "environment": {"options": {"rooms": 3}}}) == ""
    database = {"dsnSecretRef": {"name": "other"}}
    assert "spec.database.dsnSecretRef can't change once the run exists" in patch({"database": database})
    assert patch({"database": {"resources": {"limits": {"memory": "3Gi"}}}}) == ""
    assert "spec.database.size can't change once the run exists" in patch({"database": {"size": "20Gi"}})
    assert "spec.storage.volumeClaim.accessMode can't" in patch(
        {"storage": {"volumeClaim": {"accessMode": "ReadWriteMany"}}}
    )
    report("r1-rollout")
    for field, change in {
        "rounds": {"rounds": {"maxRounds": 9}},
        "models.teacher.model": {"models": {"teacher": {"model": "/m"}}},
        "models.extractor.endpoint.baseURL": {"models": {"extractor": {"endpoint": {"baseURL": "https://b/v1"}}}},
        "promotion": {"promotion": {"policy": "Never"}},
        "rollout.temperature": {"rollout": {"temperature": 1.5}},
        "training.seed": {"training": {"seed": 7}},
        "environment.options": {"environment": {"options": {"rooms": 4}}},
        "modelServer.extraArgs": {"modelServer": {"extraArgs": ["--max-model-len=8192", "--max-num-seqs=8"]}},
        "storage.uri": {"storage": {"uri": "s3://bucket/prefix"}},
    }.items():
        refused = patch(change)
        assert f"spec.{field} can't change once the run has started a stage other than prepare" in refused
        assert f"spec.{field}:" in refused
    for change in (
        {"suspend": False},
        {"suspend": True},
        {"ttlSecondsAfterFinished": 60},
        {"queueName": "q"},
        {"serving": {"replicas": 3, "pinnedRound": 0}},
        {"rollout": {"concurrency": 3, "workers": 2, "leaseSeconds": 30}},
        {"training": {"packedSequenceLength": 4096}},
        {"stages": {"train": {"maxRetries": 9, "resources": {"limits": {"memory": "9Gi"}}}}},
        {"podTemplate": {"nodeSelector": {"pool": "gpu"}}},
        {"database": {"resources": {"requests": {"memory": "1Gi"}}}},
        {"models": {"extractor": {"endpoint": {"apiKeySecretRef": {"name": "other"}}}}},
        {"modelServer": {"extraArgs": ["--max-num-seqs=64", "--max-model-len=4096", "--enforce-eager"]}},
        {"environment": {"tokenSecretRef": secret}},
        {"storage": {"volumeClaim": {"size": "900Gi"}, "retain": True}},
        {"environment": {"tasks": {"evaluate": 500}}},
    ):
        assert patch(change) == "", change
    assert "spec.environment.tasks.evaluate can only grow" in patch({"environment": {"tasks": {"evaluate": 499}}})
    assert "spec.storage.volumeClaim.size can only grow" in patch({"storage": {"volumeClaim": {"size": "800Gi"}}})
    assert "size can only grow" not in patch({"storage": {"volumeClaim": {"size": "1Ti"}}})


def test_defaults_are_filled_in(users: Runs):
    users.apply(small("defaults", suspend=True))
    spec = users.get("defaults")["spec"]
    assert spec["rollout"]["workers"] == 1
    assert spec["rounds"] == {"maxRounds": 1, "arrivals": [], "sampler": "fresh", "failureShare": 0.25}
    gate = {"candidate": "distilled", "metric": "success", "confidence": 0.5, "minImprovement": 0}
    assert spec["promotion"]["gate"] == gate


def test_null_in_parameters_is_kept(users: Runs):
    """It leaves a parameter out of requests; an API server drops the nulls of other fields."""
    parameters = {"max_tokens": None, "max_completion_tokens": 4000, "reasoning": {"effort": "low"}}
    extractor = {"endpoint": {**ENDPOINT, "parameters": parameters}}
    users.apply(small("nulls", suspend=True, models={"student": STUDENT, "extractor": extractor}))
    assert users.get("nulls")["spec"]["models"]["extractor"]["endpoint"]["parameters"] == parameters
