"""The abort of a canary whose run can't be read."""

from __future__ import annotations

from distillery_operator.decide.canary.abort import abort_canary
from distillery_operator.model.observed import Observed
from tests.unit.operator.decide.canary.scenario import OLD, CanaryScenario


def observed_of(cluster: CanaryScenario) -> Observed:
    return Observed(deployments={"test": cluster.objects["Deployment", "test"]})


def test_stable_student_gets_all_traffic_whatever_the_body_says_of_itself():
    cluster = CanaryScenario.start()
    body = {**cluster.body, "status": cluster.status}
    aborted = abort_canary(body, cluster.status, observed_of(cluster), cluster.now)
    assert aborted
    plan, _ = aborted
    assert (plan.stable.student, plan.canary) == (OLD, None)
    assert plan.stable.reason == "the specification is not accepted."


def test_nothing_is_aborted_when_nothing_is_served():
    cluster = CanaryScenario.start()
    assert abort_canary(cluster.body, {}, observed_of(cluster), cluster.now) is None


def test_nothing_is_aborted_when_there_are_no_servers():
    cluster = CanaryScenario.start()
    assert abort_canary(cluster.body, cluster.status, Observed(), cluster.now) is None


def test_nothing_is_aborted_when_the_rest_of_the_run_is_invalid():
    cluster = CanaryScenario.start()
    cluster.body["spec"]["models"] = {}
    assert abort_canary(cluster.body, cluster.status, observed_of(cluster), cluster.now) is None
