"""The changes of a specification that change what is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillery.core.api import parse
from distillery.core.api.learned import GROWING, MUTABLE, Change, digest_of_learned, learned_changes
from distillery.core.api.run import DistillationRun
from tests.unit.documents import document

ENDPOINT = {"baseURL": "http://llm/v1", "model": "m"}


def run(**spec: Any) -> DistillationRun:
    """A run with parts of its spec replaced."""
    body = document()
    for path, value in spec.items():
        target = body["spec"]
        *folders, name = path.split("__")
        for folder in folders:
            target = target.setdefault(folder, {})
        target[name] = value
    return parse(body)


@pytest.mark.parametrize(
    "change",
    [
        {"rollout__concurrency": 7, "rollout__workers": 3, "rollout__patienceSeconds": 60},
        {"training__packedSequenceLength": 16_384},
        {"stages__train__resources": {"limits": {"nvidia.com/gpu": "1"}}, "stages__train__maxRetries": 9},
        {"podTemplate__nodeSelector": {"pool": "gpu"}},
        {"storage__volumeClaim": {"size": "200Gi"}},
        {"modelServer__extraArgs": ["--tensor-parallel-size=2", "--max-num-seqs", "64"]},
        {"suspend": True, "serving__pinnedRound": 1},
    ],
)
def test_digest_stays_the_same_when_only_mutable_fields_change(change: dict[str, Any]):
    assert digest_of_learned(run(**change)) == digest_of_learned(run())
    assert learned_changes(run(), run(**change)) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"training__seed": 7}, Change("spec.training.seed", 42, 7)),
        ({"training__maxSampleTokens": 512}, Change("spec.training.maxSampleTokens", None, 512)),
        ({"environment__maxSteps": 3}, Change("spec.environment.maxSteps", 50, 3)),
        ({"environment__options": {"rooms": []}}, Change("spec.environment.options.rooms", None, [])),
        (
            {"models__student__endpoint": {**ENDPOINT, "parameters": {"temperature": None}}},
            Change("spec.models.student.endpoint", None, {**ENDPOINT, "parameters": {"temperature": None}}),
        ),
        (
            {"modelServer__extraArgs": ["--max-model-len=4096", "--max-num-seqs=8"]},
            Change("spec.modelServer.extraArgs", [], ["--max-model-len=4096"]),
        ),
    ],
)
def test_digest_differs_when_learned_fields_change(change: dict[str, Any], expected: Change):
    assert digest_of_learned(run(**change)) != digest_of_learned(run())
    (difference,) = learned_changes(run(), run(**change))
    assert difference == expected


def test_learned_changes_report_held_out_tasks_when_they_shrink():
    few, many = run(environment__tasks={"evaluate": 100}), run(environment__tasks={"evaluate": 200})
    assert digest_of_learned(few) == digest_of_learned(many) == digest_of_learned(run())
    assert learned_changes(few, many) == []
    assert learned_changes(many, few) == [Change("spec.environment.tasks.evaluate", 200, 100)]


def test_digest_is_the_same_when_a_default_is_written_out():
    assert digest_of_learned(run(training__seed=42, training__lora={"rank": 64})) == digest_of_learned(run())


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "released").glob("*.json")), ids=lambda path: path.stem
)
def test_defaults_of_learned_fields_are_the_same_in_every_version(path: Path):
    """A version that is released adds its canonical minimal document to the folder."""
    assert learned_changes(parse(json.loads(path.read_text())), run()) == []


def test_mutable_fields_exist_in_the_specification():
    schema = DistillationRun.model_json_schema(by_alias=True)
    definitions = schema["$defs"]

    def fields(name: str) -> dict[str, Any]:
        return definitions[name]["properties"]

    def below(field: dict[str, Any]) -> str:
        options = [field, *field.get("anyOf", []), *field.get("allOf", [])]
        return next((o["$ref"].rpartition("/")[2] for o in options if "$ref" in o), "")

    for path in (*MUTABLE, *GROWING):
        kind = "Spec"
        for part in path.split("."):
            assert part in fields(kind), path
            kind = below(fields(kind)[part])
