"""The pods that serve a student: how many do, and which are polled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from distillery.core.api import parse
from distillery.core.planner.graph import student_model
from distillery_operator.decide.canary.pods import (
    RolloutStatus,
    list_outdated_pods,
    list_pods_to_poll,
    observe_rollout,
    read_generation,
    serves,
)
from distillery_operator.decide.canary.target import ServingTarget
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed
from tests.fakes.cluster import UID, run_object

TARGET = ServingTarget(student_model(2, "distilled"), "2abcdef012345678", 2, "Why.")
AVAILABLE = {"observedGeneration": 3, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


def deployment(*, deleted: bool = False, status: Mapping[str, int] | None = None) -> Manifest:
    """A Deployment of two replicas with the merged weights of the target."""
    return {
        "metadata": {"generation": 3, **({"deletionTimestamp": "2026-11-25T12:00:00Z"} if deleted else {})},
        "spec": {"template": {"metadata": {"labels": {"distillery.dev/student": TARGET.student}}}},
        "status": {**AVAILABLE, **(status or {})},
    }


def pod(name: str, annotation: str | None = "7", *, adapters: bool = True, **status: str) -> Manifest:
    annotations = {} if annotation is None else {"distillery.dev/routing-generation": annotation}
    labels = {"app.kubernetes.io/component": "serving"}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, "annotations": annotations},
        "spec": {"initContainers": [{"name": "syncer"}] if adapters else []},
        "status": {"phase": "Running", "podIP": "10.0.0.1", **status},
    }


def names_of(pods: list[Manifest]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


def rollout(observed: Observed, *, weights: str = "adapter") -> RolloutStatus:
    body = run_object(promotion={"weights": weights}, serving={"replicas": 2})
    return observe_rollout(RunRef(parse(body), UID), TARGET, 7, observed)


def test_deployment_serves_a_student_when_all_replicas_hold_it():
    assert serves(deployment(), TARGET, 2) is True


@pytest.mark.parametrize(
    "status",
    [{"observedGeneration": 2}, {"updatedReplicas": 1}, {"availableReplicas": 1}, {"replicas": 3}, {"replicas": 1}],
)
def test_deployment_does_not_serve_while_it_changes(status: dict[str, int]):
    assert serves(deployment(status=status), TARGET, 2) is False


def test_deployment_serves_when_more_than_needed_is_available():
    status = {"observedGeneration": 4, "updatedReplicas": 3, "availableReplicas": 3}
    assert serves(deployment(status=status), TARGET, 2) is True


def test_deployment_does_not_serve_when_it_is_missing_or_deleted():
    assert serves(None, TARGET, 2) is False
    assert serves(deployment(deleted=True), TARGET, 2) is False


def test_deployment_does_not_serve_another_student():
    assert serves(deployment(), replace(TARGET, digest="1abcdef012345678"), 2) is False


def test_rollout_of_merged_weights_counts_ready_replicas():
    observed = Observed(deployments={"test": deployment(status={"replicas": 3, "readyReplicas": 1})})
    assert rollout(observed, weights="merged") == RolloutStatus(1, complete=False, available=False, pods=3)
    whole = Observed(deployments={"test": deployment()})
    assert rollout(whole, weights="merged") == RolloutStatus(2, complete=True, available=True, pods=2)


@pytest.mark.parametrize("weights", ["adapter", "merged"])
def test_rollout_has_nothing_when_there_is_no_deployment(weights: str):
    assert rollout(Observed(), weights=weights) == RolloutStatus(0, complete=False, available=False)


def test_rollout_of_adapters_counts_pods_that_report_the_generation():
    pods, deployments = (pod("a"), pod("b"), pod("c")), {"test": deployment(status={"replicas": 2})}
    some = Observed(pods=pods, deployments=deployments, generations={"a": 7, "b": 6}, problems={"c": "No disk."})
    assert rollout(some) == RolloutStatus(1, complete=False, available=True, problem="No disk.", pods=2)
    every = Observed(
        pods=pods, deployments=deployments, generations=dict.fromkeys("abc", 7), problems={"c": "No disk."}
    )
    assert rollout(every) == RolloutStatus(3, complete=True, available=True, pods=2)


def test_rollout_is_not_complete_before_all_replicas_are_available():
    deployments = {"test": deployment(status={"availableReplicas": 1})}
    assert rollout(Observed(pods=(pod("a"),), deployments=deployments, generations={"a": 7})).complete is False


@pytest.mark.parametrize(("annotation", "generation"), [("12", 12), (None, 0), ("", 0), ("new", 0)])
def test_generation_is_0_when_the_annotation_is_no_number(annotation: str | None, generation: int):
    assert read_generation(pod("a", annotation)) == generation


def test_outdated_pods_are_those_with_another_generation():
    observed = Observed(pods=(pod("a", "7"), pod("b", "6"), pod("c", None)))
    assert names_of(list_outdated_pods(7, observed)) == ["b", "c"]


POLLED = Observed(
    pods=(pod("a"), pod("confirmed"), pod("merged", adapters=False), pod("new", None), pod("homeless", podIP=""))
)


@pytest.mark.parametrize(
    ("canary", "expected"), [(False, ["a", "behind"]), (True, ["a", "confirmed", "merged", "behind"])]
)
def test_pods_are_polled_until_they_confirm_or_during_a_canary(canary: bool, expected: list[str]):
    observed = replace(POLLED, pods=(*POLLED.pods, pod("behind")))
    reported: dict[str, Any] = {"uid-confirmed": 7, "uid-behind": 6}
    assert names_of(list_pods_to_poll(observed, reported, canary_in_progress=canary)) == expected
