"""Who plays a model, and the weights that a server holds for it."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.core.api import Spec, parse
from distillery.core.model_servers import endpoint_of, external_server, served_model, serves_merged
from distillery.core.planner import Kind, Model, StageId
from distillery.core.planner.graph import BASE
from tests.unit.documents import document

ENDPOINT = {"baseURL": "https://host/v1", "model": "m", "apiKeySecretRef": {"name": "keys", "key": "llm"}}
STUDENT = Model("student", StageId(1, Kind.TRAIN, "distilled"))


def spec_of(*, weights: str = "auto", **models: Any) -> Spec:
    return parse(document(models={"student": {"model": "/m"}} | models, promotion={"weights": weights})).spec


@pytest.mark.parametrize(
    ("role", "model"),
    [("teacher", {"endpoint": ENDPOINT}), ("student", {"model": "/m", "endpoint": ENDPOINT})],
)
def test_external_server_is_the_endpoint_when_the_run_names_one(role: str, model: dict[str, Any]):
    player = Model("teacher") if role == "teacher" else BASE
    server = external_server(player, parse(document(models={"student": {"model": "/m"}, role: model})).spec)
    assert server is not None
    assert (server.base_url, server.model, server.api_key_secret) == ("https://host/v1", "m", ("keys", "llm"))
    assert server.field == f"spec.models.{role}.endpoint"


def test_external_server_is_none_when_a_trained_student_plays():
    spec = spec_of(student={"model": "/m", "endpoint": ENDPOINT})
    assert external_server(STUDENT, spec) is None
    assert endpoint_of(STUDENT, spec) is None


@pytest.mark.parametrize(
    ("weights", "gpu", "merged"),
    [("auto", True, False), ("auto", False, True), ("merged", True, True), ("adapter", False, False)],
)
def test_served_model_has_merged_weights_when_asked_for_or_without_a_gpu(weights: str, gpu: bool, merged: bool):
    spec = spec_of(weights=weights)
    assert serves_merged(spec, gpu=gpu) is merged
    model = served_model(STUDENT, spec, gpu=gpu, artifacts="/artifacts", digest="0123456789abcdef")
    folder = "/artifacts/r1-train-distilled"
    assert (model.merged, model.adapter) == ((f"{folder}/merged", None) if merged else (None, f"{folder}/adapter"))
    assert model.name == ("base" if merged else "student-0123456789ab")


def test_served_model_is_the_teacher_when_it_has_a_model():
    model = served_model(Model("teacher"), spec_of(teacher={"model": "/t"}), gpu=True, artifacts="/artifacts")
    assert (model.base, model.name, model.weights, model.adapter_rank) == ("/t", "teacher", "/t", 0)
