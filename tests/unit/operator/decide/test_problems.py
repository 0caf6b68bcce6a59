"""What keeps a run from getting on is told in a sentence, from what Kubernetes shows of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from distillery_operator.decide.problems import find_problem, suspects
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
    ("status", "reason", "told"),
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
def test_a_pod_tells_why_it_does_not_start(status: dict[str, Any], reason: str, told: str):
    problem = find_problem(Observed(pods=(pod(**status),)))
    assert problem
    assert problem.reason == reason
    assert told in problem.message


@pytest.mark.parametrize(
    ("reason", "message", "expected", "told"),
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
def test_events_about_a_pod_tell_what_it_waits_for(reason: str, message: str, expected: str, told: str):
    stuck = pod(containerStatuses=waiting("ContainerCreating"))
    problem = find_problem(Observed(pods=(stuck,), events={"pod": (event(reason, message),)}))
    assert problem
    assert problem.reason == expected
    assert told in problem.message


def test_what_was_made_just_now_is_given_its_time():
    observed = Observed(pods=(pod(conditions=UNSCHEDULABLE),))
    made = datetime.fromisoformat(MADE)
    assert find_problem(observed, made - timedelta(seconds=1)) is None
    assert find_problem(observed, made)


def test_a_job_that_gets_no_pods_tells_why():
    message = 'pods "x" is forbidden: RuntimeClass "gvisor" not found'
    problem = find_problem(Observed(jobs={"j": job()}, events={"job": (event("FailedCreate", message),)}))
    assert problem
    assert problem.reason == "PodsNotCreated"
    assert 'RuntimeClass "gvisor" not found' in problem.message


def test_a_claim_of_a_class_that_is_not_there_tells_so():
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c", "namespace": "team", "uid": "claim", "creationTimestamp": MADE},
        "status": {"phase": "Pending"},
    }
    told = event("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')
    problem = find_problem(Observed(claims={"c": claim}, events={"claim": (told,)}))
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
def test_what_takes_its_time_is_no_problem(fine: Manifest):
    assert find_problem(Observed(pods=(fine,))) is None


def test_only_what_may_be_stuck_is_asked_about():
    running = pod(phase="Running")
    active = job(active=1)
    complete = job(conditions=[{"type": "Complete", "status": "True"}])
    assert suspects(Observed(pods=(running,), jobs={"a": active, "c": complete})) == []
    names = {reference.kind for reference in suspects(Observed(pods=(pod(),), jobs={"j": job()}))}
    assert names == {"Pod", "Job"}


@pytest.mark.parametrize(("minutes", "told"), [(4, False), (6, True)])
def test_a_pod_that_does_not_end_is_told(minutes: int, told: bool):
    """Its node is lost: Kubernetes starts its successor only once it has ended."""
    leaving = pod(phase="Running")
    leaving["metadata"]["deletionTimestamp"] = MADE
    leaving["spec"] = {"nodeName": "gpu-7"}
    found = find_problem(Observed(pods=(leaving,)), datetime.fromisoformat(MADE) + timedelta(minutes=minutes))
    assert (found is not None) == told
    if found:
        assert found.reason == "PodStuckTerminating"
        assert "gpu-7 does not answer" in found.message
        assert "kubectl delete pod p --force" in found.message
