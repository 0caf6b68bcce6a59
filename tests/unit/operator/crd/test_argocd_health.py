"""Argo CD's health script judges runs as the operator reports them. Argo CD runs it with Lua 5.1 and few libraries."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from lupa import lua51

from distillery.core.api import CANARY_ANNOTATION, GROUP, KIND, STAGES_ANNOTATION
from tests.fakes.cluster import FakeCluster, run_object
from tests.unit.operator.decide.canary.scenario import BAD, GOOD, CanaryScenario
from tests.unit.operator.decide.test_decide import TRIGGERED, fail, until_waiting
from tests.unit.operator.decide.test_requests import request

DOCS = Path(__file__).parents[4] / "docs"
SCRIPT = yaml.safe_load((DOCS / "argocd-cm.yaml").read_text())["data"][f"resource.customizations.health.{GROUP}_{KIND}"]


def health(cluster: FakeCluster) -> tuple[str, str]:
    """Status and message, from a Lua with the libraries that Argo CD opens: base, table and package."""
    lua = cast("Any", lua51).LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute("getmetatable('').__index = nil; string, math, io, os, debug, coroutine, python = nil")
    lua.globals().obj = lua.table_from({**cluster.body, "status": cluster.status}, recursive=True)
    found = lua.execute(SCRIPT)
    return found.status, found.message


def new() -> CanaryScenario:
    return CanaryScenario(run_object())


def running() -> FakeCluster:
    cluster = new()
    cluster.reconcile()
    return cluster


def complete() -> CanaryScenario:
    cluster = new()
    assert cluster.run() == "Complete"
    return cluster


def edited() -> FakeCluster:
    cluster = complete()
    cluster.body["metadata"]["generation"] += 1
    return cluster


def failed() -> FakeCluster:
    cluster = new()
    fail(cluster, "r1-rollout", "BackoffLimitExceeded", {"message": "out of memory", "permanent": False})
    return cluster


def invalid() -> FakeCluster:
    body = run_object()
    body["spec"]["podTemplate"]["nodeSelector"] = {"not a label!": "x"}
    cluster = FakeCluster(body)
    cluster.reconcile()
    return cluster


def suspended() -> FakeCluster:
    cluster = FakeCluster(run_object(suspend=True))
    cluster.reconcile()
    return cluster


def paused() -> FakeCluster:
    cluster = running()
    request(cluster, STAGES_ANNOTATION, "pause@a")
    return cluster


def no_such_student() -> FakeCluster:
    cluster = CanaryScenario(run_object(rounds={"maxRounds": 2}))
    cluster.pin(2)
    return cluster


def rolling_out() -> FakeCluster:
    cluster = complete()
    cluster.pin(0)
    return cluster


def waiting() -> FakeCluster:
    cluster = CanaryScenario(run_object(**TRIGGERED))
    until_waiting(cluster)
    cluster.settle()
    return cluster


def canary_paused() -> FakeCluster:
    cluster = CanaryScenario.start()
    request(cluster, CANARY_ANNOTATION, "pause@a")
    return cluster


def canary_inconclusive() -> FakeCluster:
    cluster = CanaryScenario.start()
    cluster.wait(3600)
    return cluster


def canary_rolled_back() -> FakeCluster:
    cluster = CanaryScenario.start()
    cluster.report_traffic(BAD, GOOD)
    cluster.wait(1)
    cluster.settle()
    assert cluster.run() == "Complete"
    cluster.settle()
    return cluster


@pytest.mark.parametrize(
    ("state", "expected", "message"),
    [
        (new, "Progressing", "has not seen"),
        (edited, "Progressing", "has not seen"),
        (running, "Progressing", "database"),
        (rolling_out, "Progressing", "servers of the base model are ready"),
        (CanaryScenario.start, "Progressing", "Step 1 of 3"),
        (complete, "Healthy", ""),
        (waiting, "Healthy", "failures"),
        (canary_rolled_back, "Healthy", ""),
        (suspended, "Suspended", "spec.suspend"),
        (paused, "Suspended", "distillery resume team/test --stages"),
        (canary_paused, "Suspended", "until you resume it"),
        (canary_inconclusive, "Suspended", "Promote it, roll it back"),
        (failed, "Degraded", "out of memory"),
        (invalid, "Degraded", "spec.podTemplate.nodeSelector"),
        (no_such_student, "Degraded", "has not ended"),
    ],
)
def test_health_follows_the_run(state: Callable[[], FakeCluster], expected: str, message: str):
    found = health(state())
    assert found[0] == expected
    assert message in found[1]


def test_health_is_degraded_when_something_is_stalled():
    cluster = running()
    stalled: dict[str, Any] = {"type": "Stalled", "status": "True", "reason": "Unschedulable", "message": "no node"}
    cluster.status["conditions"].append(stalled)
    assert health(cluster) == ("Degraded", "no node")


def test_health_script_is_installed_as_the_page_says():
    page = (DOCS / "gitops.md").read_text()
    assert re.search(r"kubectl .*patch configmap argocd-cm .*--patch-file docs/argocd-cm\.yaml", page)
