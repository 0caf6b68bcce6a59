"""What keeps a student answering while nodes are drained or lost."""

from __future__ import annotations

from typing import Any

import pytest

from distillery_operator.manifests import canary_servers, servers
from tests.fakes.cluster import FakeCluster, run_object
from tests.unit.operator.manifests.test_manifests import DIGEST, SETTINGS, STUDENT, owner, serving

IN_S3: dict[str, Any] = {"storage": {"uri": "s3://bucket/runs"}}
WIDE: dict[str, Any] = {"storage": {"volumeClaim": {"accessMode": "ReadWriteMany"}}}


def test_drain_evicts_one_serving_pod_at_a_time():
    budget = servers.disruption_budget(owner())
    labels = serving(owner())["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert budget["spec"]["maxUnavailable"] == 1
    canary = canary_servers.manifests(owner(), STUDENT, DIGEST, SETTINGS, replicas=2)[2]["spec"]["template"]
    assert not budget["spec"]["selector"]["matchLabels"].items() <= canary["metadata"]["labels"].items()


def test_disruption_budget_exists_when_a_student_is_served():
    cluster = FakeCluster(run_object())
    cluster.run()
    assert ("PodDisruptionBudget", "test") in cluster.objects


@pytest.mark.parametrize("spec", [IN_S3, WIDE])
def test_nodes_and_zones_share_serving_pods(spec: dict[str, Any]):
    template = serving(owner(**spec))["spec"]["template"]
    constraints = template["spec"]["topologySpreadConstraints"]
    assert [c["topologyKey"] for c in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for constraint in constraints:
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_pods_are_not_spread_when_a_volume_binds_them_to_one_node():
    assert "topologySpreadConstraints" not in serving(owner())["spec"]["template"]["spec"]


@pytest.mark.parametrize("replicas", [0, 1, 9])
def test_pod_template_stays_the_same_when_replicas_change(replicas: int):
    """Else to scale would replace all pods."""
    template = serving(owner(serving={"replicas": replicas}))["spec"]["template"]
    assert template == serving(owner(serving={"replicas": 2}))["spec"]["template"]
