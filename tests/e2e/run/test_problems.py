"""A run that can't continue says why within a minute."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from tests.e2e.conftest import namespace
from tests.e2e.support.cluster import RUN, Cluster, Namespace
from tests.e2e.support.documents import small

pytestmark = pytest.mark.full

MINUTE = 60.0

WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no-secret": ({"database": {"dsnSecretRef": {"name": "nosuch", "key": "dsn"}}}, "SecretKeyMissing", "nosuch"),
    "no-class": ({"storage": {"volumeClaim": {"storageClassName": "nosuch"}}}, "VolumeNotProvisioned", "nosuch"),
    "no-runtime": ({"podTemplate": {"runtimeClassName": "nosuch"}}, "PodsNotCreated", "nosuch"),
    "no-image": ({"podTemplate": {"image": "distillery/nosuch:1"}}, "ImageNotPulled", "distillery/nosuch:1"),
    "too-large": ({"storage": {"volumeClaim": {"size": "2Ti"}}}, "ObjectRejected", "exceeded quota"),
    "taken": ({}, "NameConflict", "The Service taken-database belongs to somebody else and is left alone"),
}
QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "small-volumes"},
    "spec": {"hard": {"requests.storage": "1Ti"}},
}
THEIRS = {"app": "theirs"}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "taken-database"},
    "spec": {"selector": THEIRS, "ports": [{"port": 80}]},
}


@pytest.fixture(scope="module")
def wrong(cluster: Cluster, operator: Namespace) -> Generator[Namespace]:
    """A namespace with a run for each thing that can be wrong."""
    with namespace(cluster, "e2e-problems") as made:
        made.apply(QUOTA)
        made.apply(SERVICE)
        for name, (spec, _, _) in WRONG.items():
            made.apply(small(name, **spec))
        yield made


@pytest.mark.parametrize("name", WRONG)
def test_stalled_run_gives_the_reason_when_its_spec_cannot_work(wrong: Namespace, name: str):
    _, reason, message = WRONG[name]
    wrong.wait_for(
        f"a condition with reason {reason}",
        lambda: wrong.condition(name, "Stalled").get("reason") == reason,
        seconds=MINUTE * 5,  # reported within one; this machine may be slow
    )
    assert message in wrong.condition(name, "Stalled")["message"]
    assert wrong.status(name)["message"] == wrong.condition(name, "Stalled")["message"]


def test_rejected_object_is_created_once_it_is_allowed(wrong: Namespace):
    """And nothing else had to wait for it."""
    assert wrong.get("statefulset", "too-large-database")
    wrong.kubectl("delete", "resourcequota", "small-volumes")
    wrong.wait_for("the claim", lambda: wrong.get("pvc", "too-large-artifacts"), seconds=MINUTE * 5)
    wrong.wait_for(
        "no complaint",
        lambda: wrong.condition("too-large", "Stalled").get("reason") != "ObjectRejected",
        seconds=MINUTE * 5,
    )


def test_object_of_another_owner_is_kept_when_the_run_is_deleted(wrong: Namespace):
    assert wrong.get("service", "taken-database")["spec"]["selector"] == THEIRS
    wrong.kubectl("delete", RUN, "taken", "--timeout=300s")
    wrong.wait_for("the end of its own", lambda: not wrong.get("statefulset", "taken-database"), seconds=MINUTE * 5)
    kept = wrong.get("service", "taken-database")
    assert kept["spec"]["selector"] == THEIRS
    assert "ownerReferences" not in kept["metadata"]


def test_run_is_stalled_with_the_resource_when_no_gpu_is_free(team: Namespace):
    """The node has one GPU, or says so: no device of it is ever used here."""
    (node, *_) = team.list("nodes")
    capacity = json.dumps({"status": {"capacity": {"nvidia.com/gpu": "1"}}})
    team.kubectl(
        "patch", "node", node["metadata"]["name"], "--subresource=status", "--type=merge", f"--patch={capacity}"
    )
    team.apply(small("gpu", modelServer={"resources": {"limits": {"nvidia.com/gpu": "2"}}}))
    # the stage that mounts the volume first asks for what the others need
    team.wait_for("the first stage", lambda: team.stage("gpu", "prepare"), run="gpu")
    team.wait_for(
        "the condition",
        lambda: "nvidia.com/gpu" in team.condition("gpu", "Stalled").get("message", ""),
        seconds=MINUTE * 5,
    )
    assert team.condition("gpu", "Stalled")["reason"] == "Unschedulable"
    assert team.status("gpu")["phase"] == "Running"
