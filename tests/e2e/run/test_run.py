"""One run for many tests: it is applied, and what works for it dies while it plays."""

from __future__ import annotations

from tests.e2e.support.cluster import RUN, Namespace
from tests.e2e.support.faults import finished, kill, leader, running_worker
from tests.e2e.support.serving import NAME, TRAIN


def test_run_shows_its_progress_while_it_plays(begun: Namespace):
    begun.wait_for("a first stage", lambda: begun.stage(NAME, "r1-rollout"), run=NAME)
    columns = "NAME PHASE READY ROUND STAGE PROGRESS BASELINE CANDIDATE SERVING AGE"
    assert begun.kubectl("get", RUN).splitlines()[0].split() == columns.split()
    begun.wait_for("progress", lambda: begun.status(NAME).get("progress", {}).get("total") == TRAIN, run=NAME)


def test_operator_and_a_worker_are_replaced_when_they_die(begun: Namespace, operator: Namespace):
    begun.wait_for("a finished episode", lambda: finished(begun, NAME, "own") > 0, run=NAME)
    worker, leading = running_worker(begun, "r1-rollout"), leader(operator)
    assert worker, "the stage ended before its worker could be killed"
    kill(begun, worker)
    kill(operator, leading)
    operator.wait_for("another leader", lambda: leader(operator) != leading, seconds=120)
    begun.wait_for("another worker", lambda: running_worker(begun, "r1-rollout") not in ("", worker), run=NAME)


def test_stage_continues_when_the_database_died(begun: Namespace):
    begun.wait_for("a finished episode", lambda: finished(begun, NAME, "teacher") > 0, run=NAME)
    uid = begun.get("pod", f"{NAME}-database-0")["metadata"]["uid"]
    assert running_worker(begun, "r1-teach"), "the stage ended before its database could be killed"
    kill(begun, f"{NAME}-database-0")

    def replaced() -> bool:
        return begun.get("pod", f"{NAME}-database-0").get("metadata", {}).get("uid", uid) != uid

    begun.wait_for("another database", replaced, run=NAME)
