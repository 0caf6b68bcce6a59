"""The quick-start database: what it gets, and when it runs."""

from __future__ import annotations

from typing import Any

import pytest

from distillery_operator.manifests import database
from distillery_operator.manifests.resources import DATABASE
from distillery_operator.model.objects import Manifest
from tests.fakes.cluster import FakeCluster, run_object
from tests.unit.operator.decide.test_decide import fail
from tests.unit.operator.manifests.test_manifests import SETTINGS, owner


def test_database_has_requests_a_size_and_probes():
    def parts(**spec: Any) -> tuple[Manifest, Manifest]:
        made = database.stateful_set(owner(**spec), SETTINGS)["spec"]
        (server,), (claim,) = made["template"]["spec"]["containers"], made["volumeClaimTemplates"]
        return server, claim["spec"]["resources"]

    server, volume = parts()
    assert server["resources"] == DATABASE.model_dump(by_alias=True)
    assert volume == {"requests": {"storage": "10Gi"}}
    assert server["livenessProbe"]["exec"] == server["startupProbe"]["exec"]
    asked = {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
    server, volume = parts(database={"resources": asked, "size": "100Gi"})
    assert (server["resources"], volume) == (asked, {"requests": {"storage": "100Gi"}})


def end_history(cluster: FakeCluster) -> None:
    for _ in range(60):
        cluster.reconcile()
        cluster.get_ready()
    for job in cluster.running_jobs():
        cluster.end_job(job, "Complete")
    cluster.reconcile()


@pytest.mark.parametrize("feedback", [False, True])
def test_database_stops_when_the_run_is_complete_and_no_recorder_runs(feedback: bool):
    cluster = FakeCluster(run_object(serving={"feedback": {}} if feedback else {}))
    assert cluster.run() == "Complete"
    cluster.reconcile()
    assert cluster.objects["StatefulSet", "test-database"]["spec"]["replicas"] == 1  # for the history's Job
    end_history(cluster)
    assert cluster.objects["StatefulSet", "test-database"]["spec"]["replicas"] == int(feedback)


def test_database_runs_on_when_somebody_starts_it_again():
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    end_history(cluster)
    stopped = cluster.objects["StatefulSet", "test-database"]["spec"]
    assert stopped["replicas"] == 0
    stopped["replicas"] = 1
    end_history(cluster)
    assert cluster.objects["StatefulSet", "test-database"]["spec"]["replicas"] == 1


def test_database_starts_again_when_another_student_is_to_be_served():
    cluster = FakeCluster(run_object())
    assert cluster.run() == "Complete"
    end_history(cluster)
    cluster.body["spec"]["serving"]["pinnedRound"] = 0
    cluster.reconcile()
    assert cluster.objects["StatefulSet", "test-database"]["spec"]["replicas"] == 1
    end_history(cluster)
    assert cluster.objects["StatefulSet", "test-database"]["spec"]["replicas"] == 0


def test_database_runs_on_when_the_run_failed():
    cluster = FakeCluster(run_object())
    fail(cluster, "r1-rollout", "BackoffLimitExceeded", None)
    cluster.reconcile()
    assert cluster.objects["StatefulSet", "test-database"]["spec"]["replicas"] == 1
