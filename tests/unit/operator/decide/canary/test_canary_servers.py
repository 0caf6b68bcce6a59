"""The servers of a canary: its share of those that serve, and what becomes of it when they fail."""

from __future__ import annotations

import pytest

from distillery_operator.decide.canary.analysis import Counts
from tests.fakes.cluster import FakeCluster, run_object
from tests.unit.operator.decide.canary.test_canary import (
    BAD,
    GOOD,
    NEW,
    OLD,
    STEPS,
    canary_deployment,
    later,
    news,
    on_trial,
    pin,
    play,
    settle,
    targets,
    traffic,
    trial,
)

GROWING = [{"weight": 10, "minDurationSeconds": 60}, {"weight": 50, "minDurationSeconds": 60}]


def test_merged_weights_get_as_many_servers_as_their_share_needs():
    cluster = on_trial(weights="merged", replicas=10, steps=GROWING)
    deployment = canary_deployment(cluster)
    assert deployment
    assert (deployment["spec"]["replicas"], trial(cluster)["phase"]) == (1, "Running")
    traffic(cluster, GOOD)
    later(cluster)
    cluster.reconcile()
    deployment = canary_deployment(cluster)
    assert deployment
    assert (deployment["spec"]["replicas"], targets(cluster)) == (5, [(OLD, 90), (NEW, 10)])
    generation: int = cluster.desired()["generation"]
    cluster.generations = dict.fromkeys(cluster.generations, generation)
    later(cluster)
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (2, "Starting"), "the new servers are not there yet"
    traffic(cluster, BAD)
    cluster.reconcile()
    assert trial(cluster)["phase"] == "Failed", "harm is not waited for"


def test_a_larger_share_begins_once_its_servers_are_there():
    cluster = on_trial(weights="merged", replicas=10, steps=GROWING)
    traffic(cluster, GOOD)
    later(cluster)
    settle(cluster)
    assert (trial(cluster)["step"], trial(cluster)["phase"]) == (2, "Running")
    assert targets(cluster) == [(OLD, 50), (NEW, 50)]
    deployment = canary_deployment(cluster)
    assert deployment
    deployment["status"]["availableReplicas"] = 4
    before = cluster.desired()
    cluster.reconcile()
    assert cluster.desired() == before, "what its servers fail counts against it"


def test_merged_weights_have_servers_of_their_own_while_they_are_tried():
    cluster = FakeCluster(
        run_object(
            rounds={"maxRounds": 2},
            promotion={"weights": "merged"},
            serving={"replicas": 2, "canary": {"steps": STEPS[1:]}},
        )
    )
    play(cluster, 2)
    deployment = canary_deployment(cluster)
    assert deployment
    deployment["status"] = {}
    cluster.reconcile()
    assert targets(cluster) == [(OLD, 100)], "its servers are not there yet"
    later(cluster, 300)
    assert trial(cluster)["phase"] == "Starting"
    settle(cluster)
    old, new = cluster.desired()["aliases"]["test"]
    assert (old["model"], new["model"], new["upstream"]) == ("test", "test", "http://test-canary.team.svc:8000")
    assert (old["weight"], new["weight"]) == (90, 10)
    assert trial(cluster)["phase"] == "Running"
    labels = cluster.objects["Deployment", "test"]["spec"]["template"]["metadata"]["labels"]
    assert labels["distillery.dev/student"] == OLD
    for _ in range(2):
        traffic(cluster, GOOD)
        later(cluster)
        cluster.objects["Deployment", "test"]["status"]["updatedReplicas"] = 0
        if trial(cluster)["phase"] == "Successful":
            break
        settle(cluster)
    assert (
        cluster.objects["Deployment", "test"]["spec"]["template"]["metadata"]["labels"]["distillery.dev/student"] == NEW
    )
    assert targets(cluster) == [(NEW, 100)]
    cluster.reconcile()
    assert canary_deployment(cluster), "it serves until the others hold the newcomer"
    settle(cluster, 2)
    assert {name for _, name in cluster.objects if name == "test-canary"} == set()
    assert cluster.condition("Serving")["status"] == "True"


def test_merged_weights_that_failed_leave_nothing_behind():
    cluster = on_trial(weights="merged")
    assert cluster.desired()["shadows"]["test"]["upstream"] == "http://test-canary.team.svc:8000"
    traffic(cluster, BAD)
    cluster.reconcile()
    assert trial(cluster)["phase"] == "Failed"
    assert targets(cluster) == [(OLD, 100)]
    first, *others = cluster.generations
    cluster.generations[first] = cluster.desired()["generation"]
    assert cluster.reconcile().requeue == 5.0
    assert others
    assert canary_deployment(cluster), "the other pod sends requests there still"
    settle(cluster)
    assert {kind for kind, name in cluster.objects if name == "test-canary"} == set()
    later(cluster, 60)
    assert cluster.reconcile().requeue == cluster.settings.heal_seconds
    assert ("Service", "test") in cluster.objects
    assert ("ConfigMap", "test-serving") in cluster.objects


@pytest.mark.parametrize("weights", ["adapter", "merged"])
def test_a_newcomer_that_hangs_is_taken_back_at_once(weights: str):
    cluster = on_trial(weights=weights, steps=STEPS[1:], analysis={"maxFirstTokenSeconds": 4})
    assert cluster.desired()["maxFirstTokenSeconds"] == 4
    traffic(cluster, Counts(30, slow=30), Counts(300, slow=3))
    later(cluster, 1)
    assert (trial(cluster)["phase"], targets(cluster)) == ("Failed", [(OLD, 100)])
    assert trial(cluster)["canary"]["slow"] == 30
    assert trial(cluster)["message"].startswith("Slow requests are up by at least")


def test_an_inconclusive_step_is_taken_back_where_the_policy_says_so():
    cluster = on_trial(inconclusivePolicy="Abort")
    traffic(cluster, Counts(50))
    later(cluster, 3600)
    assert (trial(cluster)["phase"], targets(cluster)) == ("Failed", [(OLD, 100)])
    assert news(cluster) == ("False", "RolledBack")
    assert "Neither better nor worse is shown after 3600 s" in trial(cluster)["message"]
    later(cluster, 3600)
    assert targets(cluster) == [(OLD, 100)]


def test_a_newcomer_that_no_pod_can_hold_is_given_up_where_the_policy_says_so():
    canary = {"steps": STEPS, "inconclusivePolicy": "Abort"}
    cluster = FakeCluster(
        run_object(rounds={"maxRounds": 2}, promotion={"weights": "adapter"}, serving={"canary": canary})
    )
    play(cluster, 2)
    for _ in range(3):
        later(cluster, 1800)
    assert (trial(cluster)["phase"], targets(cluster)) == ("Failed", [(OLD, 100)])


@pytest.mark.parametrize("shares", ["Inconclusive", "Starting"])
def test_a_newcomers_server_that_goes_away_keeps_its_traffic_once_it_had_some(shares: str):
    cluster = on_trial(weights="merged")
    if shares == "Starting":
        traffic(cluster, GOOD)
        later(cluster)
        assert trial(cluster)["step"] == 2
    else:
        later(cluster, 3600)
    assert trial(cluster)["phase"] == shares
    before = cluster.desired()
    deployment = canary_deployment(cluster)
    assert deployment
    deployment["status"]["availableReplicas"] = 0
    cluster.reconcile()
    assert cluster.desired() == before


def test_a_newcomers_server_that_is_on_its_way_out_gets_no_traffic():
    cluster = on_trial(weights="merged")
    pin(cluster, 1)
    settle(cluster)
    assert canary_deployment(cluster) is None
    pin(cluster, None)
    cluster.get_ready()
    deployment = canary_deployment(cluster)
    assert deployment
    deployment["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    cluster.reconcile()
    assert "shadows" not in cluster.desired()


def test_traffic_that_a_newcomers_servers_fail_counts_against_it():
    cluster = on_trial(weights="merged")
    deployment = canary_deployment(cluster)
    assert deployment
    deployment["status"]["availableReplicas"] = 0
    before = cluster.desired()
    cluster.reconcile()
    assert cluster.desired() == before
    traffic(cluster, BAD)
    cluster.reconcile()
    assert trial(cluster)["phase"] == "Failed"
