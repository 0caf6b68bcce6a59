"""The problems that keep a run from continuing, as Kubernetes shows them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from distillery_operator.decide.problems import find_problem, find_suspects
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed

MADE = "2026-11-25T12:00:00Z"
LABELS = {"distillery.dev/stage": "r1-rollout", "distillery.dev/run": "test"}


def pod(**status: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "team", "uid": "pod", "creationTimestamp": MADE, "labels": LABELS},
        "status": {"phase": "Pending", **status},
    }


def job(**status: Any) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "namespace": "team", "uid": "job", "creationTimestamp": MADE, "labels": LABELS},
        "spec": {},
        "status": status,
    }


def event(reason: str, message: str) -> Manifest:
    return {"reason": reason, "message": message}


def waiting(reason: str, message: str = "") -> list[dict[str, Any]]:
    state = {"waiting": {"reason": reason, "message": message}}
    return [{"name": "worker", "image": "distillery/pipeline:9", "state": state}]


UNSCHEDULABLE = [
    {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }
]


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        ({"conditions": UNSCHEDULABLE}, "Unschedulable", "stage r1-rollout fits on no node: 0/3 nodes are available"),
        (
            {"containerStatuses": waiting("ImagePullBackOff", "not found")},
            "ImageNotPulled",
            "The image distillery/pipeline:9 of stage r1-rollout can't be pulled: not found",
        ),
        (
            {"containerStatuses": waiting("CreateContainerConfigError", "user is root")},
            "CreateContainerConfigError",
            "does not start: user is root",
        ),
    ],
)
def test_pod_has_a_problem_when_it_does_not_start(status: dict[str, Any], reason: str, text: str):
    problem = find_problem(Observed(pods=(pod(**status),)))
    assert problem
    assert problem.reason == reason
    assert text in problem.message


@pytest.mark.parametrize(
    ("reason", "message", "expected", "text"),
    [
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "secret-0" : secret "openai" not found',
            "SecretKeyMissing",
            'Stage r1-rollout waits for a Secret: secret "openai" not found.',
        ),
        (
            "FailedMount",
            'MountVolume.SetUp failed for volume "s" : references non-existent secret key: token',
            "SecretKeyMissing",
            "references non-existent secret key: token",
        ),
        ("FailedAttachVolume", "Multi-Attach error", "VolumeNotMounted", "Multi-Attach error"),
    ],
)
def test_pod_has_a_problem_when_events_report_one(reason: str, message: str, expected: str, text: str):
    stuck = pod(containerStatuses=waiting("ContainerCreating"))
    problem = find_problem(Observed(pods=(stuck,), events={"pod": (event(reason, message),)}))
    assert problem
    assert problem.reason == expected
    assert text in problem.message


def test_new_pod_has_no_problem_before_it_is_old_enough():
    observed = Observed(pods=(pod(conditions=UNSCHEDULABLE),))
    made = datetime.fromisoformat(MADE)
    assert find_problem(observed, made - timedelta(seconds=1)) is None
    assert find_problem(observed, made)


def test_job_has_a_problem_when_its_pods_are_rejected():
    message = 'pods "x" is forbidden: RuntimeClass "gvisor" not found'
    problem = find_problem(Observed(jobs={"j": job()}, events={"job": (event("FailedCreate", message),)}))
    assert problem
    assert problem.reason == "PodsNotCreated"
    assert 'RuntimeClass "gvisor" not found' in problem.message


def test_claim_has_a_problem_when_its_class_does_not_exist():
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c", "namespace": "team", "uid": "claim", "creationTimestamp": MADE},
        "status": {"phase": "Pending"},
    }
    failure = event("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')
    problem = find_problem(Observed(claims={"c": claim}, events={"claim": (failure,)}))
    assert problem
    assert problem.reason == "VolumeNotProvisioned"
    assert '"fast" not found' in problem.message


@pytest.mark.parametrize(
    "fine",
    [
        pod(containerStatuses=waiting("ContainerCreating")),
        pod(phase="Running", containerStatuses=[{"name": "worker", "image": "i", "state": {"running": {}}}]),
        pod(phase="Failed"),
    ],
)
def test_pod_has_no_problem_when_it_starts_normally(fine: Manifest):
    assert find_problem(Observed(pods=(fine,))) is None


def test_objects_are_suspects_when_they_may_be_stuck():
    running = pod(phase="Running")
    active = job(active=1)
    complete = job(conditions=[{"type": "Complete", "status": "True"}])
    assert find_suspects(Observed(pods=(running,), jobs={"a": active, "c": complete})) == []
    names = {reference.kind for reference in find_suspects(Observed(pods=(pod(),), jobs={"j": job()}))}
    assert names == {"Pod", "Job"}


@pytest.mark.parametrize(("minutes", "stuck"), [(4, False), (6, True)])
def test_pod_has_a_problem_when_it_does_not_end(minutes: int, stuck: bool):
    """Its node is lost: Kubernetes starts its successor only once it has ended."""
    leaving = pod(phase="Running")
    leaving["metadata"]["deletionTimestamp"] = MADE
    leaving["spec"] = {"nodeName": "gpu-7"}
    found = find_problem(Observed(pods=(leaving,)), datetime.fromisoformat(MADE) + timedelta(minutes=minutes))
    assert (found is not None) == stuck
    if found:
        assert found.reason == "PodStuckTerminating"
        assert "gpu-7 does not answer" in found.message
        assert "kubectl delete pod p --force" in found.message


def workload(kind: str, replicas: int | None, there: int) -> Manifest:
    metadata = {"name": "w", "namespace": "team", "uid": "w", "creationTimestamp": MADE}
    spec = {} if replicas is None else {"replicas": replicas}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec, "status": {"replicas": there}}


@pytest.mark.parametrize(
    ("replicas", "there", "suspicious"), [(2, 1, True), (2, 2, False), (2, 3, False), (0, 0, False)]
)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_workload_is_a_suspect_when_it_lacks_pods(kind: str, replicas: int, there: int, suspicious: bool):
    manifests = {"w": workload(kind, replicas, there)}
    observed = Observed(deployments=manifests) if kind == "Deployment" else Observed(stateful_sets=manifests)
    assert [suspect.kind for suspect in find_suspects(observed)] == [kind] * suspicious


def test_workload_needs_one_pod_when_it_names_no_replicas():
    assert find_suspects(Observed(deployments={"w": workload("Deployment", None, 0)}))
    assert not find_suspects(Observed(deployments={"w": workload("Deployment", None, 1)}))


@pytest.mark.parametrize(
    ("spec", "status", "suspicious"),
    [
        ({}, {}, True),
        ({}, {"active": 0}, True),
        ({}, {"active": 1}, False),
        ({"suspend": True}, {}, False),
        ({}, {"conditions": [{"type": "Failed", "status": "True"}]}, False),
        ({}, {"conditions": [{"type": "Complete", "status": "True"}]}, False),
        ({}, {"conditions": [{"type": "Failed", "status": "False"}]}, True),
    ],
)
def test_job_is_a_suspect_when_it_lacks_pods(spec: dict[str, Any], status: dict[str, Any], suspicious: bool):
    assert bool(find_suspects(Observed(jobs={"j": {**job(**status), "spec": spec}}))) == suspicious


@pytest.mark.parametrize(("phase", "suspicious"), [("Pending", True), ("Lost", True), ("Bound", False)])
def test_claim_is_a_suspect_until_it_is_bound(phase: str, suspicious: bool):
    metadata = {"name": "c", "namespace": "team", "uid": "claim", "creationTimestamp": MADE}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "status": {"phase": phase}}
    assert bool(find_suspects(Observed(claims={"c": claim}))) == suspicious


@pytest.mark.parametrize("phase", ["Running", "Succeeded", "Failed", "Unknown"])
def test_pod_is_no_suspect_when_it_is_not_pending(phase: str):
    assert not find_suspects(Observed(pods=(pod(phase=phase),)))


def test_problem_counts_from_the_moment_its_object_is_old_enough():
    observed, made = Observed(pods=(pod(conditions=UNSCHEDULABLE),)), datetime.fromisoformat(MADE)
    assert find_problem(observed, made)
    assert not find_problem(observed, made - timedelta(microseconds=1))


@pytest.mark.parametrize(("seconds", "stuck"), [(299, False), (300, True)])
def test_pod_is_stuck_five_minutes_after_its_grace_period(seconds: int, stuck: bool):
    leaving = pod(phase="Running")
    leaving["metadata"]["deletionTimestamp"] = MADE
    leaving["spec"] = {}
    later = datetime.fromisoformat(MADE) + timedelta(seconds=seconds)
    assert bool(find_problem(Observed(pods=(leaving,)), later)) == stuck


def test_problem_of_a_pod_is_that_of_the_newest_event():
    events = (event("FailedMount", 'secret "a" not found'), event("FailedCreatePodSandBox", "no sandbox"))
    stuck = pod(containerStatuses=waiting("ContainerCreating"))
    problem = find_problem(Observed(pods=(stuck,), events={"pod": events}))
    assert problem
    assert problem.reason == "PodNotStarted"
