"""One run for many tests that never plays: no node takes it, and then its model is not there."""

from __future__ import annotations

import time

import pytest

from tests.e2e.cluster import RUN, Namespace
from tests.e2e.conftest import STUCK
from tests.e2e.test_loop import query

MINUTE = 60.0
RESYNC = 75.0
"""Seconds; longer than the operator leaves a run alone."""


@pytest.fixture(scope="module")
def failed(stuck: Namespace) -> tuple[str, float]:
    """Once it has failed: its version, and when that was read."""
    stuck.wait_for("the failure", lambda: stuck.condition(STUCK, "Failed").get("status") == "True")
    return stuck.get(RUN, STUCK)["metadata"]["resourceVersion"], time.monotonic()


def test_a_run_that_no_node_takes_says_why(stuck: Namespace):
    stuck.wait_for(
        "a condition with reason Unschedulable",
        lambda: stuck.condition(STUCK, "Stalled").get("reason") == "Unschedulable",
        seconds=MINUTE * 5,  # said within one; this machine may be slow
    )
    assert "node" in stuck.condition(STUCK, "Stalled")["message"]
    assert stuck.status(STUCK)["message"] == stuck.condition(STUCK, "Stalled")["message"]


def test_a_run_continues_when_a_node_takes_it(stuck: Namespace):
    stuck.wait_for("the condition", lambda: stuck.condition(STUCK, "Stalled").get("status") == "True")
    stuck.kubectl("label", "nodes", "--all", "pool=nosuch")
    try:
        stuck.wait_for("a database", lambda: stuck.condition(STUCK, "DatabaseReady").get("status") == "True", run=STUCK)
        stuck.wait_for("no condition", lambda: stuck.condition(STUCK, "Stalled").get("status") != "True")
        stuck.wait_for("the failure", lambda: stuck.condition(STUCK, "Failed").get("status") == "True")
    finally:
        stuck.kubectl("label", "nodes", "--all", "pool-")


def test_a_model_that_is_not_there_fails_the_run_by_name(stuck: Namespace, failed: tuple[str, float]):
    assert "/no/such/model: there is no such folder" in stuck.condition(STUCK, "Failed")["message"]
    assert query(stuck, STUCK, "SELECT count(*) AS n FROM episode") == [{"n": 0}]


def test_an_idle_run_costs_no_writes(stuck: Namespace, failed: tuple[str, float]):
    version, read = failed
    time.sleep(max(0.0, read + RESYNC - time.monotonic()))
    assert stuck.get(RUN, STUCK)["metadata"]["resourceVersion"] == version
