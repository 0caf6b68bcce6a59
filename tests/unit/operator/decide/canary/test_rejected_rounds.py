"""The loop after live traffic rejected a student: later rounds start with the model before it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillery_operator.model.names import STAGE_LABEL
from tests.fakes.cluster import result_of, run_object
from tests.unit.operator.decide.canary.scenario import BAD, GOOD, STEPS, CanaryScenario


def canary_between_rounds() -> CanaryScenario:
    """The student of round 2 is a canary, and round 3 waits for failures of users."""
    spec: dict[str, Any] = {
        "rounds": {"maxRounds": 4, "trigger": {"minFailures": 5}},
        "promotion": {"weights": "adapter"},
        "serving": {"replicas": 2, "canary": {"steps": STEPS}, "feedback": {}},
    }
    cluster = CanaryScenario(run_object(**spec))
    cluster.run_rounds(1)
    begin_round(cluster, 2)
    cluster.run_rounds(2)
    cluster.settle()
    return cluster


def begin_round(cluster: CanaryScenario, number: int) -> str:
    """Let a round begin by failures of users; return the name of the model that it starts with."""
    cluster.failures, stage = 9, f"r{number}-sample"
    for _ in range(20):
        cluster.reconcile()
        cluster.get_ready()
    assert stage in cluster.created, cluster.status["message"]
    cluster.failures = 0
    (config,) = (
        thing
        for (kind, _), thing in cluster.objects.items()
        if kind == "ConfigMap" and thing["metadata"].get("labels", {}).get(STAGE_LABEL) == stage
    )
    return json.loads(config["data"]["config.json"])["start"]


def test_next_round_starts_before_the_rejected_student():
    cluster = canary_between_rounds()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    assert begin_round(cluster, 3) == "r1-train-distilled"
    assert [record["rejected"] for record in cluster.status["rounds"]] == [False, True]


def test_next_round_starts_with_the_student_when_traffic_accepts_it():
    cluster = canary_between_rounds()
    cluster.report_traffic(GOOD)
    cluster.wait(1)
    assert begin_round(cluster, 3) == "r2-train-distilled"


@pytest.mark.parametrize("round", [2, 1])
def test_pinned_student_is_accepted_and_another_stays_rejected(round: int):
    cluster = canary_between_rounds()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    cluster.pin(round)
    cluster.reconcile()
    assert begin_round(cluster, 3) == f"r{round}-train-distilled"


def test_rejection_is_remembered_after_the_next_canary():
    cluster = canary_between_rounds()
    cluster.report_traffic(BAD)
    cluster.wait(1)
    cluster.failures = 9
    for _ in range(400):
        if len(cluster.status["rounds"]) == 3:
            break
        cluster.reconcile()
        cluster.get_ready()
        for job in cluster.running_jobs():
            stage = job["metadata"]["labels"][STAGE_LABEL]
            result = result_of(stage) | ({"start": "r1-train-distilled"} if "sample" in stage else {})
            cluster.end_job(job, "Complete", word={"result": result})
    assert [record["rejected"] for record in cluster.status["rounds"]] == [False, True, False]
