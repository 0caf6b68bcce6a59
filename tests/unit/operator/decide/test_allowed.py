"""What administrators allow runs to name, and what becomes of a run that names something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distillery.core.api import parse
from distillery_operator.decide.allowed import find_forbidden
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.settings import Settings
from tests.fakes.cluster import FakeCluster, result_of, run_object
from tests.unit.documents import document

STUDENT = {"model": "/models/tiny"}
IMAGE = "registry.example.com/team/pipeline:1"


def endpoint(url: str) -> dict[str, Any]:
    return {"models": {"student": STUDENT, "extractor": {"endpoint": {"baseURL": url, "model": "m"}}}}


def forbidden(spec: dict[str, Any], **allowed: Any) -> list[str]:
    return [problem.path for problem in find_forbidden(parse(document(**spec)).spec, Settings(**allowed))]


@pytest.mark.parametrize(
    ("spec", "setting", "path"),
    [
        ({"podTemplate": {"image": IMAGE}}, "images", "spec.podTemplate.image"),
        ({"stages": {"train": {"podTemplate": {"image": IMAGE}}}}, "images", "spec.stages.train.podTemplate.image"),
        ({"gpuPodTemplate": {"image": IMAGE}}, "images", "spec.gpuPodTemplate.image"),
        ({"database": {"podTemplate": {"image": IMAGE}}}, "images", "spec.database.podTemplate.image"),
        ({"serving": {"podTemplate": {"image": IMAGE}}}, "images", "spec.serving.podTemplate.image"),
        ({"modelServer": {"image": IMAGE}}, "images", "spec.modelServer.image"),
        (endpoint("https://host/v1"), "endpoints", "spec.models.extractor.endpoint.baseURL"),
        ({"storage": {"uri": "s3://b/p", "endpointURL": "http://s3"}}, "endpoints", "spec.storage.endpointURL"),
        ({"environment": {"options": {"url": "http://env"}}}, "endpoints", "spec.environment.options.url"),
        ({"podTemplate": {"serviceAccountName": "admin"}}, "service_accounts", "spec.podTemplate.serviceAccountName"),
        (
            {"stages": {"prepare": {"podTemplate": {"priorityClassName": "system"}}}},
            "priority_classes",
            "spec.stages.prepare.podTemplate.priorityClassName",
        ),
        ({"podTemplate": {"runtimeClassName": "kata"}}, "runtime_classes", "spec.podTemplate.runtimeClassName"),
    ],
)
def test_field_is_forbidden_when_its_value_is_not_listed(spec: dict[str, Any], setting: str, path: str):
    assert forbidden(spec) == []
    assert forbidden(spec, **{f"allowed_{setting}": ("other",)}) == [path]
    assert forbidden({}, **{f"allowed_{setting}": ("other",)}) == []


@pytest.mark.parametrize(
    ("image", "entry", "allowed"),
    [
        (IMAGE, "registry.example.com", True),
        (IMAGE, "registry.example.com/", True),
        (IMAGE, "registry.example.com/team", True),
        (IMAGE, "registry.example.com/team/pipeline", True),
        (IMAGE, IMAGE, True),
        (IMAGE, "registry.example.com/tea", False),
        ("registry.example.com.evil/team/pipeline", "registry.example.com", False),
        (f"{IMAGE}0", IMAGE, False),
        (f"{IMAGE}@sha256:{'0' * 64}", IMAGE, True),
        ("vllm/vllm-openai:v0.32.0", "docker.io/vllm", True),
        ("docker.io/vllm/vllm-openai", "vllm/vllm-openai", True),
        ("postgres", "docker.io", True),
        ("localhost:5000/a", "docker.io", False),
    ],
)
def test_image_is_allowed_when_an_entry_is_it_or_above_it(image: str, entry: str, allowed: bool):
    assert (forbidden({"podTemplate": {"image": image}}, allowed_images=("other", entry)) == []) is allowed


@pytest.mark.parametrize(
    ("url", "entry", "allowed"),
    [
        ("https://api.example.com/v1", "api.example.com", True),
        ("https://API.Example.com:8443/v1", "api.example.com", True),
        ("https://api.example.com/v1", "*.example.com", True),
        ("https://example.com/v1", "*.example.com", False),
        ("https://evil-example.com/v1", "*.example.com", False),
        ("https://api.example.com.evil/v1", "api.example.com", False),
        ("https://api.example.com@evil/v1", "api.example.com", False),
        ("https://evil\\@api.example.com/v1", "api.example.com", False),
        ("https://[::1/v1", "*.example.com", False),
    ],
)
def test_endpoint_is_allowed_when_its_host_is_listed(url: str, entry: str, allowed: bool):
    assert (forbidden(endpoint(url), allowed_endpoints=(entry,)) == []) is allowed


def forbid(cluster: FakeCluster) -> None:
    cluster.settings = replace(cluster.settings, allowed_images=("registry.example.com", "ghcr.io/team"))


def step(cluster: FakeCluster) -> None:
    """A look at the run; what runs then succeeds."""
    cluster.reconcile()
    cluster.get_ready()
    for job in cluster.running_jobs():
        cluster.end_job(job, "Complete", word={"result": result_of(job["metadata"]["labels"][STAGE_LABEL])})


def test_nothing_is_created_when_a_run_names_a_forbidden_image():
    cluster = FakeCluster(run_object(podTemplate={"image": "evil/pipeline"}))
    forbid(cluster)
    decision = cluster.reconcile()
    assert (decision.secret, decision.apply, decision.create, cluster.objects) == (False, (), (), {})
    accepted = cluster.condition("Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "NotAllowed")
    assert 'spec.podTemplate.image: "evil/pipeline": is not allowed' in accepted["message"]
    assert "allows registry.example.com, ghcr.io/team" in accepted["message"]
    assert (cluster.status["phase"], cluster.condition("Failed")["reason"]) == ("Failed", "NotAllowed")


@pytest.mark.parametrize("by", ["author", "administrator"])
def test_run_starts_when_what_it_names_becomes_allowed(by: str):
    cluster = FakeCluster(run_object(podTemplate={"image": "evil/pipeline"}))
    forbid(cluster)
    cluster.reconcile()
    if by == "author":
        cluster.body["spec"]["podTemplate"]["image"] = "ghcr.io/team/pipeline"
    else:
        cluster.settings = replace(cluster.settings, allowed_images=())
    assert cluster.run() == "Complete"
    assert cluster.condition("Accepted")["status"] == "True"


def test_run_keeps_serving_when_its_image_becomes_forbidden():
    cluster = FakeCluster(run_object(rounds={"maxRounds": 2}, podTemplate={"image": "evil/pipeline"}))
    while "r2-rollout" not in cluster.created:
        step(cluster)
    forbid(cluster)
    made = list(cluster.created)
    for _ in range(5):
        step(cluster)
    assert cluster.created == made
    assert ("Deployment", "test") in cluster.objects
    assert cluster.status["phase"] == "Running"
    assert cluster.condition("Accepted")["reason"] == "NotAllowed"
    cluster.settings = replace(cluster.settings, allowed_images=())
    assert cluster.run() == "Complete"


def test_stages_of_a_forbidden_run_stop_when_it_is_suspended():
    cluster = FakeCluster(run_object(podTemplate={"image": "evil/pipeline"}))
    while not cluster.running_jobs():
        cluster.reconcile()
        cluster.get_ready()
    forbid(cluster)
    cluster.reconcile()
    assert len(cluster.running_jobs()) == 1
    cluster.body["spec"]["suspend"] = True
    cluster.reconcile()
    assert cluster.running_jobs() == []
    assert ("StatefulSet", "test-database") in cluster.objects


def test_run_is_complete_again_when_its_image_is_allowed_again():
    cluster = FakeCluster(run_object(podTemplate={"image": "evil/pipeline"}))
    cluster.run()
    message = cluster.status["message"]
    forbid(cluster)
    cluster.reconcile()
    assert (cluster.status["phase"], cluster.condition("Complete")["status"]) == ("Complete", "True")
    assert cluster.status["message"] != message
    cluster.settings = replace(cluster.settings, allowed_images=())
    cluster.reconcile()
    assert (cluster.status["phase"], cluster.status["message"]) == ("Complete", message)


def test_settings_read_what_is_allowed_from_the_environment():
    environment = {"DISTILLERY_ALLOWED_IMAGES": "ghcr.io/team,registry.example.com"}
    assert Settings.from_environment(environment).allowed_images == ("ghcr.io/team", "registry.example.com")
