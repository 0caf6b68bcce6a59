"""Every container asks for CPU and memory, so that a namespace with a ResourceQuota takes all pods of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from distillery.core.api.spec.infrastructure import Resources
from distillery_operator.manifests import database
from distillery_operator.manifests.resources import complete
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest
from tests.unit.operator.manifests.test_manifests import ADAPTER, GPU, IN_S3, SETTINGS, everything, owner, pod_specs

FEEDBACK: dict[str, Any] = {"promotion": {"weights": "adapter"}, "serving": {"feedback": {}}}
GIVEN: dict[str, Any] = {"modelServer": {"resources": {"requests": {"cpu": "8"}, "limits": {"nvidia.com/gpu": "2"}}}}
DEFAULT = Resources(requests={"cpu": "100m", "memory": "1Gi"}, limits={"memory": "4Gi"})


def containers(of: RunRef) -> Iterator[Manifest]:
    for pod in pod_specs(of):
        yield from (*pod.get("initContainers", []), *pod["containers"])


@pytest.mark.parametrize("spec", [{}, GPU, ADAPTER, IN_S3, FEEDBACK, GIVEN])
def test_every_container_asks_for_cpu_and_memory(spec: dict[str, Any]):
    names = set[str]()
    for container in containers(owner(**spec)):
        resources, names = container["resources"], {*names, container["name"]}
        assert resources["requests"].keys() >= {"cpu", "memory"}, container["name"]
        assert "memory" in resources["limits"], container["name"]
    assert names >= {"fetch", "server", "worker", "postgres", "gateway"}


@pytest.mark.parametrize(
    ("requests", "limits", "expected_requests", "expected_limits"),
    [
        ({}, {}, {"cpu": "100m", "memory": "1Gi"}, {"memory": "4Gi"}),
        # as Kubernetes does it: a limit without a request is the request
        ({}, {"memory": "512Mi"}, {"cpu": "100m", "memory": "512Mi"}, {"memory": "512Mi"}),
        ({"memory": "32Gi"}, {}, {"cpu": "100m", "memory": "32Gi"}, {"memory": "32Gi"}),
        (
            {"cpu": "8"},
            {"nvidia.com/gpu": "1"},
            {"cpu": "8", "memory": "1Gi"},
            {"memory": "4Gi", "nvidia.com/gpu": "1"},
        ),
    ],
)
def test_defaults_fill_resources_that_the_run_leaves_out(
    requests: dict[str, str], limits: dict[str, str], expected_requests: dict[str, str], expected_limits: dict[str, str]
):
    completed = complete(Resources(requests=requests, limits=limits), DEFAULT)
    assert (completed.requests, completed.limits) == (expected_requests, expected_limits)


def test_quick_start_database_takes_the_resources_of_the_run():
    of = owner(database={"resources": {"limits": {"memory": "8Gi"}}})
    (server,) = database.stateful_set(of, SETTINGS)["spec"]["template"]["spec"]["containers"]
    assert server["resources"]["limits"] == {"memory": "8Gi"}
    assert of.identity == owner().identity


def test_pods_come_from_statefulsets_jobs_and_deployments_only():
    """Else a container could escape the test above."""
    kinds = {made["kind"] for made in everything(owner()) if "template" in made.get("spec", {})}
    assert kinds == {"StatefulSet", "Job", "Deployment"}
