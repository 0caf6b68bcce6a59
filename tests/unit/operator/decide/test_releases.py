"""A newer release of the operator continues the runs of an older one, and leaves their pods as they are."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from distillery import __version__
from distillery_operator.decide import releases
from distillery_operator.decide.releases import UPGRADE_ANNOTATION
from distillery_operator.manifests import database
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest
from tests.fakes.cluster import FakeCluster, result_of, run_object

NEWER: dict[str, Any] = {
    "pipeline_image": "distillery/pipeline:99.0.0",
    "gateway_image": "distillery/gateway:99.0.0",
    "cpu_server_image": "distillery/server-cpu:99.0.0",
    "gpu_server_image": "vllm/vllm-openai:v0.40.0",
    "postgres_image": "pgvector/pgvector:pg18",
}


def upgrade(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, **images: str) -> None:
    """Put another release of the operator, and of all images, in the place of this one."""
    monkeypatch.setattr(releases, "__version__", "99.0.0")
    cluster.settings = replace(cluster.settings, **{**NEWER, **images})


def request(cluster: FakeCluster, value: str = "now") -> None:
    cluster.body["metadata"].setdefault("annotations", {})[UPGRADE_ANNOTATION] = value


def images_of(workload: Manifest) -> set[str]:
    spec = workload["spec"]["template"]["spec"]
    return {container["image"] for container in (*spec["containers"], *spec.get("initContainers", []))}


def play_until(cluster: FakeCluster, stage: str) -> None:
    while stage not in cluster.created:
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            if (name := job["metadata"]["labels"][STAGE_LABEL]) != stage:
                cluster.end_job(job, "Complete", word={"result": result_of(name)})


def test_run_keeps_its_images_when_the_operator_is_upgraded(monkeypatch: pytest.MonkeyPatch):
    cluster = FakeCluster(run_object())
    play_until(cluster, "r1-rollout")
    before = copy.deepcopy(cluster.status["images"])
    upgrade(cluster, monkeypatch)
    assert cluster.run() == "Complete"
    assert cluster.status["images"] == before
    used = set[str]().union(*(images_of(o) for (k, _), o in cluster.objects.items() if k in ("Job", "StatefulSet")))
    assert not any("99.0.0" in image or "pg18" in image for image in used)
    assert cluster.created.count("migrate") == 1


def test_next_stages_have_the_new_images_when_an_upgrade_is_requested(monkeypatch: pytest.MonkeyPatch):
    cluster = FakeCluster(run_object())
    play_until(cluster, "r1-rollout")
    upgrade(cluster, monkeypatch)
    request(cluster)
    for _ in range(3):
        cluster.reconcile()
    (running,) = cluster.running_jobs()
    assert f"localhost/distillery/pipeline:{__version__}" in images_of(running)
    assert cluster.created.count("migrate") == 1  # the stage that runs may not know another schema
    assert cluster.run() == "Complete"
    assert (cluster.status["upgradeRequest"], cluster.created.count("migrate")) == ("now", 2)
    (promote,) = [name for kind, name in cluster.objects if kind == "Job" and "promote" in name]
    assert images_of(cluster.objects["Job", promote]) == {"distillery/pipeline:99.0.0"}


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("pgvector/pgvector:pg18", "pgvector/pgvector:pg17"),
        ("pgvector/pgvector:0.8.1-pg17", "pgvector/pgvector:0.8.1-pg17"),
    ],
)
def test_postgres_keeps_its_major_version_when_an_upgrade_is_requested(
    configured: str, expected: str, monkeypatch: pytest.MonkeyPatch
):
    cluster = FakeCluster(run_object())
    play_until(cluster, "r1-rollout")
    upgrade(cluster, monkeypatch, postgres_image=configured)
    request(cluster)
    cluster.reconcile()
    assert images_of(cluster.objects["StatefulSet", "test-database"]) == {expected}


def test_database_keeps_its_image_when_none_was_recorded(monkeypatch: pytest.MonkeyPatch):
    cluster = FakeCluster(run_object())
    play_until(cluster, "r1-rollout")
    del cluster.status["images"]
    upgrade(cluster, monkeypatch)
    cluster.reconcile()
    assert cluster.status["images"]["postgres"] == "pgvector/pgvector:pg17"
    assert cluster.status["images"]["pipeline"] == "distillery/pipeline:99.0.0"
    assert images_of(cluster.objects["StatefulSet", "test-database"]) == {"pgvector/pgvector:pg17"}


def test_database_gets_no_other_image_when_it_was_not_seen_yet(monkeypatch: pytest.MonkeyPatch):
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    del cluster.status["images"]
    upgrade(cluster, monkeypatch)
    database = cluster.objects.pop(("StatefulSet", "test-database"))
    cluster.reconcile()
    assert "postgres" not in cluster.status["images"]
    cluster.objects["StatefulSet", "test-database"] = database
    cluster.reconcile()
    assert cluster.status["images"]["postgres"] == "pgvector/pgvector:pg17"


def served(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeCluster, Manifest]:
    """A run that serves, whose operator was replaced by one that makes other pods; and their template before."""
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    before = copy.deepcopy(cluster.objects["Deployment", "test"]["spec"]["template"])
    original = releases.keep_template

    def keep_template(wanted: Manifest, *context: Any) -> Manifest:
        wanted = copy.deepcopy(wanted)
        if wanted["kind"] == "Deployment":
            wanted["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 99
        return original(wanted, *context)

    monkeypatch.setattr("distillery_operator.decide.steps.serving.keep_template", keep_template)
    upgrade(cluster, monkeypatch)
    return cluster, before


def template(cluster: FakeCluster) -> Manifest:
    for _ in range(2):
        cluster.reconcile()
    return cluster.objects["Deployment", "test"]["spec"]["template"]


def test_pods_that_serve_stay_when_the_operator_is_upgraded(monkeypatch: pytest.MonkeyPatch):
    cluster, before = served(monkeypatch)
    assert template(cluster) == before
    cluster.body["spec"]["serving"]["replicas"] = 3
    assert template(cluster) == before
    assert cluster.objects["Deployment", "test"]["spec"]["replicas"] == 3


def test_pods_that_serve_are_replaced_when_an_upgrade_is_requested(monkeypatch: pytest.MonkeyPatch):
    cluster, _ = served(monkeypatch)
    request(cluster)
    assert template(cluster)["spec"]["terminationGracePeriodSeconds"] == 99
    assert "distillery/gateway:99.0.0" in images_of(cluster.objects["Deployment", "test"])


def test_pods_that_serve_are_replaced_when_the_specification_changes(monkeypatch: pytest.MonkeyPatch):
    cluster, _ = served(monkeypatch)
    cluster.body["spec"]["podTemplate"]["nodeSelector"] = {"pool": "gpu"}
    made = template(cluster)
    assert made["spec"]["nodeSelector"] == {"pool": "gpu"}
    assert made["spec"]["terminationGracePeriodSeconds"] == 99
    assert f"localhost/distillery/gateway:{__version__}" in images_of(cluster.objects["Deployment", "test"])


def test_database_stays_when_what_serves_changes_after_an_upgrade(monkeypatch: pytest.MonkeyPatch):
    cluster = FakeCluster(run_object())
    play_until(cluster, "r1-rollout")
    made = database.stateful_set

    def newer(*context: Any, **more: Any) -> Manifest:
        wanted = made(*context, **more)
        wanted["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 99
        return wanted

    def seconds() -> int:
        cluster.reconcile()
        pod = cluster.objects["StatefulSet", "test-database"]["spec"]["template"]["spec"]
        return pod["terminationGracePeriodSeconds"]

    monkeypatch.setattr(database, "stateful_set", newer)
    upgrade(cluster, monkeypatch)
    cluster.body["spec"]["serving"] = {"gateway": {"limits": {"maxTokens": 7}}}
    assert seconds() == 60
    cluster.body["spec"]["database"] = {"resources": {"requests": {"cpu": "2"}}}
    assert seconds() == 99


def test_template_that_somebody_changed_comes_back_in_the_same_release():
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    before = copy.deepcopy(cluster.objects["Deployment", "test"]["spec"]["template"])
    cluster.objects["Deployment", "test"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    assert template(cluster) == before


def test_run_waits_when_its_crd_is_newer_than_the_operator():
    cluster = FakeCluster(run_object())
    cluster.body["spec"]["curriculum"] = {"rate": 3}
    cluster.reconcile()
    accepted = cluster.condition("Accepted")
    assert (cluster.status["phase"], accepted["status"], accepted["reason"]) == ("Pending", "False", "UnknownField")
    assert "spec.curriculum" in accepted["message"]
    assert "upgrade the operator" in accepted["message"]
    assert not cluster.objects
    del cluster.body["spec"]["curriculum"]  # what an operator that knows the field makes of it
    assert cluster.run() == "Complete"


def test_run_continues_when_its_crd_became_newer_in_between():
    cluster = FakeCluster(run_object())
    play_until(cluster, "r1-rollout")
    objects = copy.deepcopy(cluster.objects)
    cluster.body["spec"]["curriculum"] = {"rate": 3}
    cluster.reconcile()
    assert (cluster.status["phase"], cluster.condition("Accepted")["reason"]) == ("Running", "UnknownField")
    assert cluster.objects == objects
    del cluster.body["spec"]["curriculum"]
    assert cluster.run() == "Complete"


def test_digest_is_recorded_when_an_earlier_release_did_not():
    cluster = FakeCluster(run_object())
    play_until(cluster, "r1-rollout")
    recorded = cluster.status.pop("learnedDigest")
    cluster.reconcile()
    assert cluster.status["learnedDigest"] == recorded
