"""One run for many tests that never plays: no node takes it, and then its model is not there."""

from __future__ import annotations

import time

from tests.e2e.cluster import RUN, Namespace
from tests.e2e.conftest import STUCK
from tests.e2e.test_loop import query

MINUTE = 60.0
RESYNC = 75.0
"""Seconds; longer than the operator leaves a run alone."""


def test_a_run_that_no_node_takes_says_why(stuck: Namespace):
    stuck.wait_for(
        "a condition with reason Unschedulable",
        lambda: stuck.condition(STUCK, "Stalled").get("reason") == "Unschedulable",
        seconds=MINUTE * 5,  # said within one; this machine may be slow
    )
    assert "node" in stuck.condition(STUCK, "Stalled")["message"]
    assert stuck.status(STUCK)["message"] == stuck.condition(STUCK, "Stalled")["message"]


def test_a_run_continues_when_a_node_takes_it(failed: Namespace):
    assert failed.condition(STUCK, "DatabaseReady")["status"] == "True"
    assert failed.condition(STUCK, "Stalled").get("status") != "True"


def test_a_model_that_is_not_there_fails_the_run_by_name(failed: Namespace):
    assert "/no/such/model: there is no such folder" in failed.condition(STUCK, "Failed")["message"]
    assert query(failed, STUCK, "SELECT count(*) AS n FROM episode") == [{"n": 0}]


def test_an_idle_run_costs_no_writes(failed: Namespace):
    before = failed.get(RUN, STUCK)["metadata"]["resourceVersion"]
    time.sleep(RESYNC)
    assert failed.get(RUN, STUCK)["metadata"]["resourceVersion"] == before
