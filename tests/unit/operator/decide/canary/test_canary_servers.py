"""The servers of a canary: its share of those that serve, and what becomes of it when they fail."""

from __future__ import annotations

import pytest

from distillery.core.contracts.traffic import Counts
from tests.unit.operator.decide.canary.scenario import BAD, GOOD, NEW, OLD, STEPS, CanaryScenario

GROWING = [{"weight": 10, "minDurationSeconds": 60}, {"weight": 50, "minDurationSeconds": 60}]


def test_canary_servers_grow_with_the_share():
    cluster = CanaryScenario.start(weights="merged", replicas=10, steps=GROWING)
    deployment = cluster.canary_deployment
    assert deployment
    assert (deployment["spec"]["replicas"], cluster.canary["phase"]) == (1, "Running")
    cluster.report_traffic(GOOD)
    cluster.wait()
    cluster.reconcile()
    deployment = cluster.canary_deployment
    assert deployment
    assert (deployment["spec"]["replicas"], cluster.targets) == (5, [(OLD, 90), (NEW, 10)])
    generation: int = cluster.desired()["generation"]
    cluster.generations = dict.fromkeys(cluster.generations, generation)
    cluster.wait()
    assert cluster.step == (2, "Starting"), "the new servers are not there yet"
    cluster.report_traffic(BAD)
    cluster.reconcile()
    assert cluster.canary["phase"] == "Failed", "harm is not waited for"


def test_larger_share_starts_when_its_servers_are_available():
    cluster = CanaryScenario.start(weights="merged", replicas=10, steps=GROWING)
    cluster.report_traffic(GOOD)
    cluster.wait()
    cluster.settle()
    assert cluster.step == (2, "Running")
    assert cluster.targets == [(OLD, 50), (NEW, 50)]
    deployment = cluster.canary_deployment
    assert deployment
    deployment["status"]["availableReplicas"] = 4
    before = cluster.desired()
    cluster.reconcile()
    assert cluster.desired() == before, "what its servers fail counts against it"


def served_student(cluster: CanaryScenario) -> str:
    """The student whose weights the stable servers hold."""
    return cluster.objects["Deployment", "test"]["spec"]["template"]["metadata"]["labels"]["distillery.dev/student"]


def test_merged_canary_waits_for_servers_of_its_own():
    cluster = CanaryScenario.begin(weights="merged", replicas=2, canary={"steps": STEPS[1:]})
    deployment = cluster.canary_deployment
    assert deployment
    deployment["status"] = {}
    cluster.reconcile()
    assert cluster.targets == [(OLD, 100)], "its servers are not there yet"
    cluster.wait(300)
    assert cluster.canary["phase"] == "Starting"
    cluster.settle()
    assert cluster.canary["phase"] == "Running"


def test_merged_canary_gets_its_share_at_its_own_servers():
    cluster = CanaryScenario.start(weights="merged", steps=STEPS[1:])
    old, new = cluster.desired()["aliases"]["test"]
    assert (old["model"], new["model"], new["upstream"]) == ("test", "test", "http://test-canary.team.svc:8000")
    assert (old["weight"], new["weight"]) == (90, 10)
    assert served_student(cluster) == OLD


def test_canary_servers_stay_until_the_stable_servers_hold_the_canary():
    cluster = CanaryScenario.start(weights="merged", steps=STEPS[1:])
    for _ in range(2):
        cluster.settle()
        cluster.report_traffic(GOOD)
        cluster.wait()
        cluster.objects["Deployment", "test"]["status"]["updatedReplicas"] = 0
    assert cluster.canary["phase"] == "Successful"
    assert (served_student(cluster), cluster.targets) == (NEW, [(NEW, 100)])
    cluster.reconcile()
    assert cluster.canary_deployment, "it serves until the others hold the canary"
    cluster.settle(2)
    assert {name for _, name in cluster.objects if name == "test-canary"} == set()
    assert cluster.condition("Serving")["status"] == "True"


def test_canary_servers_are_deleted_after_a_rollback():
    cluster = CanaryScenario.start(weights="merged")
    assert cluster.desired()["shadows"]["test"]["upstream"] == "http://test-canary.team.svc:8000"
    cluster.report_traffic(BAD)
    cluster.reconcile()
    assert cluster.canary["phase"] == "Failed"
    assert cluster.targets == [(OLD, 100)]
    first, *others = cluster.generations
    cluster.generations[first] = cluster.desired()["generation"]
    assert cluster.reconcile().requeue == 5.0
    assert others
    assert cluster.canary_deployment, "the other pod sends requests there still"
    cluster.settle()
    assert {kind for kind, name in cluster.objects if name == "test-canary"} == set()
    cluster.wait(60)
    assert cluster.reconcile().requeue == cluster.settings.heal_seconds
    assert ("Service", "test") in cluster.objects
    assert ("ConfigMap", "test-serving") in cluster.objects


@pytest.mark.parametrize("weights", ["adapter", "merged"])
def test_canary_is_rolled_back_when_its_requests_are_slow(weights: str):
    cluster = CanaryScenario.start(weights=weights, steps=STEPS[1:], analysis={"maxFirstTokenSeconds": 4})
    assert cluster.desired()["maxFirstTokenSeconds"] == 4
    cluster.report_traffic(Counts(30, slow=30), Counts(300, slow=3))
    cluster.wait(1)
    assert (cluster.canary["phase"], cluster.targets) == ("Failed", [(OLD, 100)])
    assert cluster.canary["canary"]["slow"] == 30
    assert cluster.canary["message"].startswith("Slow requests are up by at least")


def test_inconclusive_canary_is_rolled_back_when_the_policy_is_abort():
    cluster = CanaryScenario.start(inconclusivePolicy="Abort")
    cluster.report_traffic(Counts(50))
    cluster.wait(3600)
    assert (cluster.canary["phase"], cluster.targets) == ("Failed", [(OLD, 100)])
    assert cluster.progress == ("False", "RolledBack")
    assert "Neither better nor worse is shown after 3600 s" in cluster.canary["message"]
    cluster.wait(3600)
    assert cluster.targets == [(OLD, 100)]


def test_canary_that_no_pod_loads_fails_when_the_policy_is_abort():
    cluster = CanaryScenario.begin(canary={"steps": STEPS, "inconclusivePolicy": "Abort"})
    for _ in range(3):
        cluster.wait(1800)
    assert (cluster.canary["phase"], cluster.targets) == ("Failed", [(OLD, 100)])


@pytest.mark.parametrize("shares", ["Inconclusive", "Starting"])
def test_lost_canary_server_keeps_its_traffic(shares: str):
    cluster = CanaryScenario.start(weights="merged")
    if shares == "Starting":
        cluster.report_traffic(GOOD)
        cluster.wait()
        assert cluster.canary["step"] == 2
    else:
        cluster.wait(3600)
    assert cluster.canary["phase"] == shares
    before = cluster.desired()
    deployment = cluster.canary_deployment
    assert deployment
    deployment["status"]["availableReplicas"] = 0
    cluster.reconcile()
    assert cluster.desired() == before


def test_terminating_canary_server_gets_no_traffic():
    cluster = CanaryScenario.start(weights="merged")
    cluster.pin(1)
    cluster.settle()
    assert cluster.canary_deployment is None
    cluster.pin(None)
    cluster.get_ready()
    deployment = cluster.canary_deployment
    assert deployment
    deployment["metadata"]["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    cluster.reconcile()
    assert "shadows" not in cluster.desired()


def test_failures_of_canary_servers_count_against_the_canary():
    cluster = CanaryScenario.start(weights="merged")
    deployment = cluster.canary_deployment
    assert deployment
    deployment["status"]["availableReplicas"] = 0
    before = cluster.desired()
    cluster.reconcile()
    assert cluster.desired() == before
    cluster.report_traffic(BAD)
    cluster.reconcile()
    assert cluster.canary["phase"] == "Failed"


def test_larger_share_starts_immediately_when_it_needs_no_more_servers():
    cluster = CanaryScenario.start(weights="merged", replicas=2, steps=GROWING)
    cluster.report_traffic(GOOD)
    cluster.wait()
    assert cluster.step == (2, "Starting")
    deployment = cluster.canary_deployment
    assert deployment
    deployment["status"]["availableReplicas"] = 0
    cluster.reconcile()
    assert cluster.targets == [(OLD, 50), (NEW, 50)]


def test_canary_servers_are_deleted_when_pods_do_not_report():
    cluster = CanaryScenario.start(weights="merged")
    cluster.report_traffic(BAD)
    cluster.reconcile()
    cluster.seconds_since_last_report = 119.9
    cluster.reconcile()
    assert cluster.canary_deployment, "pods may send requests there still"
    cluster.seconds_since_last_report = 120
    cluster.reconcile()
    assert cluster.canary_deployment is None
