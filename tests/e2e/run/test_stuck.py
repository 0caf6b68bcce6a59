"""One run for many tests that never plays: no node takes it, and then its model is not there."""

from __future__ import annotations

import subprocess
import sys
import time

from distillery.core.api import RETRY_ANNOTATION
from tests.e2e.conftest import STUCK, room_for_stuck
from tests.e2e.run.test_loop import query
from tests.e2e.support.cluster import RUN, Namespace

MINUTE = 60.0
RESYNC = 75.0
"""Seconds; longer than the operator leaves a run alone."""


def test_unschedulable_run_gives_the_reason(stuck: Namespace):
    stuck.wait_for(
        "a condition with reason Unschedulable",
        lambda: stuck.condition(STUCK, "Stalled").get("reason") == "Unschedulable",
        seconds=MINUTE * 5,  # said within one; this machine may be slow
    )
    assert "node" in stuck.condition(STUCK, "Stalled")["message"]
    assert stuck.status(STUCK)["message"] == stuck.condition(STUCK, "Stalled")["message"]


def test_run_continues_when_a_node_becomes_suitable(failed: Namespace):
    assert failed.condition(STUCK, "DatabaseReady")["status"] == "True"
    assert failed.condition(STUCK, "Stalled")["reason"] == "StageFailed"


def test_run_fails_and_names_the_model_when_it_is_missing(failed: Namespace):
    assert "/no/such/model: there is no such folder" in failed.condition(STUCK, "Failed")["message"]
    assert query(failed, STUCK, "SELECT count(*) AS n FROM episode") == [{"n": 0}]


def test_idle_run_costs_no_writes(failed: Namespace):
    # the progress of the stage that ended goes within ten seconds
    failed.wait_for("no progress", lambda: "progress" not in failed.status(STUCK))
    before = failed.get(RUN, STUCK)["metadata"]["resourceVersion"]
    time.sleep(RESYNC)
    assert failed.get(RUN, STUCK)["metadata"]["resourceVersion"] == before


def test_command_line_requests_and_prints_the_answer(failed: Namespace):
    def distillery(command: str, *options: str) -> subprocess.CompletedProcess[str]:
        context = [f"--context={failed.cluster.context}"] if failed.cluster.context else []
        program = "from distillery.cli.main import main; main()"
        return failed.cluster.run(sys.executable, "-c", program, command, f"{failed.name}/{STUCK}", *options, *context)

    assert "none starts" in distillery("pause", "--stages").stdout
    refused = distillery("abort")
    assert (refused.returncode, "no canary is on trial" in refused.stderr) == (1, True)
    assert failed.condition(STUCK, "RequestAccepted")["status"] == "False"
    assert "stages start again" in distillery("resume", "--stages").stdout


def test_failed_run_is_retried_when_requested(failed: Namespace):
    assert failed.stage(STUCK, "prepare")["attempts"] == 1
    failed.kubectl("annotate", RUN, STUCK, f"{RETRY_ANNOTATION}=once")
    failed.wait_for("another attempt", lambda: failed.stage(STUCK, "prepare").get("attempts") == 2)
    status, condition = failed.status(STUCK), failed.condition(STUCK, "Failed")
    assert (status["phase"], status["retryRequest"]) == ("Running", "once")
    assert (condition["status"], condition["reason"]) == ("False", "RetryRequested")
    assert len(failed.list("jobs", "distillery.dev/stage=prepare")) == 2  # the first one stays, for its log
    with room_for_stuck(failed):
        failed.wait_for("the same end", lambda: failed.status(STUCK)["phase"] == "Failed")
    assert "/no/such/model: there is no such folder" in failed.condition(STUCK, "Failed")["message"]
