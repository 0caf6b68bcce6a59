"""What dies, is stopped or is deleted costs time and nothing else."""

from __future__ import annotations

import json

import pytest

from tests.e2e.run.test_loop import STAGES, assert_ended_as_undisturbed
from tests.e2e.support.cluster import RUN, Namespace
from tests.e2e.support.documents import small
from tests.e2e.support.faults import active_pods, checkpoint, finished, kill, leader, running_worker

pytestmark = pytest.mark.full


def test_run_completes_when_every_process_is_killed_once(team: Namespace, operator: Namespace):
    """The operator in every stage, a worker while it plays and while it trains, the database, and a suspension."""
    slow = {"temperature": 0.7, "leaseSeconds": 15, "concurrency": 2}
    team.apply(
        small(rollout=slow, training={**small()["spec"]["training"], "epochs": 60, "checkpointIntervalSeconds": 1})
    )
    name, killed = "small", set[str]()
    for stage in STAGES:
        team.wait_for(f"stage {stage}", lambda s=stage: team.stage(name, s), run=name)
        if stage == "r1-train-distilled":  # it is done sooner than there is another leader
            team.wait_for("a checkpoint", lambda: checkpoint(team), run=name)
            kill(team, running_worker(team, stage))
            killed.add(stage)
        before = leader(operator)
        kill(operator, before)
        operator.wait_for("another leader", lambda b=before: leader(operator) != b, seconds=120)
        match stage:
            case "r1-rollout":
                team.wait_for("a finished episode", lambda: finished(team, name, "own") > 0, run=name)
                kill(team, running_worker(team, stage))
                killed.add(stage)
            case "r1-teach":
                team.wait_for("a finished episode", lambda: finished(team, name, "teacher") > 0, run=name)
                kill(team, "small-database-0")
                killed.add("database")
            case "r1-evaluate-baseline":
                team.kubectl("patch", RUN, name, "--type=merge", '--patch={"spec": {"suspend": true}}')
                team.wait_for("the suspension", lambda: team.status(name)["phase"] == "Suspended", run=name)
                team.wait_for("the end of its pods", lambda: not active_pods(team, "r1-evaluate-baseline"), run=name)
                team.kubectl("patch", RUN, name, "--type=merge", '--patch={"spec": {"suspend": false}}')
                killed.add("suspension")
            case _:
                pass
    team.wait_for("the end", lambda: team.condition(name, "Complete").get("status") == "True", run=name)
    assert killed == {"r1-rollout", "database", "suspension", "r1-train-distilled"}
    status = assert_ended_as_undisturbed(team, name)
    assert [s["attempts"] for s in status["stages"]] == [1] * len(STAGES)
    events = json.loads(team.kubectl("get", "events", f"--field-selector=involvedObject.name={name}", "--output=json"))
    reports = [(e["reason"], e["message"]) for e in events["items"]]
    started = [reason for reason, _ in reports].count("StageStarted")
    assert len(STAGES) <= started <= len(STAGES) + 1  # the suspended stage is started again
    assert [reason for reason, _ in reports].count("RunCompleted") == 1


def test_deleted_run_leaves_nothing_behind(team: Namespace):
    team.apply(small(storage={"volumeClaim": {"size": "1Gi"}, "retain": True}))
    team.wait_for("a stage that plays", lambda: running_worker(team, "r1-rollout"), run="small")
    team.kubectl("delete", RUN, "small", "--timeout=60s")
    kinds = "jobs,pods,configmaps,statefulsets,deployments,services,serviceaccounts,networkpolicies,secrets"
    selector = "--selector=app.kubernetes.io/managed-by=distillery"
    team.wait_for("an empty namespace", lambda: not team.kubectl("get", kinds, selector, "--output=name").strip())
    kept = team.kubectl("get", "persistentvolumeclaims", selector, "--output=name").split()
    assert kept == ["persistentvolumeclaim/small-artifacts"]  # as asked for
