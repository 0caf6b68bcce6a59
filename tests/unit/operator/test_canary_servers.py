"""The servers of a canary of merged weights: its share of those that serve."""

from __future__ import annotations

from tests.unit.operator.test_canary import (
    BAD,
    GOOD,
    NEW,
    OLD,
    canary_deployment,
    later,
    on_trial,
    settle,
    targets,
    traffic,
    trial,
)

GROWING = [{"weight": 10, "seconds": 60}, {"weight": 50, "seconds": 60}]


def test_merged_weights_get_as_many_servers_as_their_share_needs():
    cluster = on_trial(weights="merged", replicas=10, steps=GROWING)
    deployment = canary_deployment(cluster)
    assert deployment
    assert (deployment["spec"]["replicas"], trial(cluster)["outcome"]) == (1, "Running")
    traffic(cluster, GOOD)
    later(cluster)
    cluster.reconcile()
    deployment = canary_deployment(cluster)
    assert deployment
    assert (deployment["spec"]["replicas"], targets(cluster)) == (5, [(OLD, 90), (NEW, 10)])
    generation: int = cluster.desired()["generation"]
    cluster.generations = dict.fromkeys(cluster.generations, generation)
    later(cluster)
    assert (trial(cluster)["step"], trial(cluster)["outcome"]) == (2, "Starting"), "the new servers are not there yet"
    traffic(cluster, BAD)
    cluster.reconcile()
    assert trial(cluster)["outcome"] == "Failed", "harm is not waited for"


def test_a_larger_share_begins_once_its_servers_are_there():
    cluster = on_trial(weights="merged", replicas=10, steps=GROWING)
    traffic(cluster, GOOD)
    later(cluster)
    settle(cluster)
    assert (trial(cluster)["step"], trial(cluster)["outcome"]) == (2, "Running")
    assert targets(cluster) == [(OLD, 50), (NEW, 50)]
    deployment = canary_deployment(cluster)
    assert deployment
    deployment["status"]["availableReplicas"] = 4
    before = cluster.desired()
    cluster.reconcile()
    assert cluster.desired() == before, "what its servers fail counts against it"
