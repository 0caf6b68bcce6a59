"""Merged weights: pods replace one another at a promotion and at a rollback, and no client notices."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from tests.e2e.conftest import namespace
from tests.e2e.support import serving
from tests.e2e.support.cluster import PATIENCE, RUN, Cluster, Namespace
from tests.e2e.support.serving import NAME, Phase, clients, failed, serve

pytestmark = pytest.mark.full

SETTLE = 10.0  # a pod on its way out finishes what it began, and the Service's rules follow


@pytest.fixture(scope="module")
def merged(cluster: Cluster, operator: Namespace) -> Generator[Namespace]:
    """A user's namespace with a run that ended, whose student two replicas serve as merged weights."""
    with namespace(cluster, "e2e-promotion") as made:
        serving.begin(made, "merged")
        serving.wait_for_servers(made)
        yield made


@contextmanager
def availability(team: Namespace) -> Generator[list[int]]:
    """How many replicas were available, at every change; complete at the end."""
    seen = list[int]()
    path = 'jsonpath={.status.availableReplicas}{"\\n"}'
    command = team._command("get", "deployment", NAME, "--watch", f"--output={path}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=team.cluster.environment) as process:
        try:
            yield seen
        finally:
            ended = process.poll()
            process.terminate()
            assert process.stdout is not None
            assert ended is None, f"kubectl get --watch ended by itself with {ended}"
            seen += [int(line or 0) for line in process.stdout.read().splitlines()]


def test_run_of_one_round_writes_its_status_a_dozen_times(merged: Namespace):
    if merged.cluster.context:
        pytest.skip("the audit log of this cluster is not at hand")
    from hack.testbed.client import audit
    from hack.testbed.places import Places

    run = merged.get(RUN, NAME)
    path = f"/apis/distillery.dev/v1alpha1/namespaces/{merged.name}/distillationruns/{NAME}/status"
    written = audit.find_applies(Places.from_environment(), path, "distillery")
    made = datetime.fromisoformat(run["metadata"]["creationTimestamp"])
    (ended,) = (datetime.fromisoformat(round_["completionTime"]) for round_ in run["status"]["rounds"])
    took = [time for time in written if made <= time <= ended + timedelta(seconds=1)]
    # on a machine that is short of everything a stage may stall for a moment, which is reported, and so is its end
    assert 0 < len(took) <= 12 + 2, f"{len(took)} writes besides progress: {[f'{t:%H:%M:%S}' for t in took]}"


def test_no_request_or_replica_is_lost_when_merged_weights_change(merged: Namespace):
    models = serving.models(merged)
    assert len(serving.pods(merged)) == 2
    phases, took = [Phase(0, frozenset({models[1]}))], list[float]()
    with availability(merged) as available, clients(merged) as answers:
        for old, new in ((1, 0), (0, 1), (1, 0)):
            phases.append(Phase(time.time(), frozenset({models[old], models[new]})))
            took.append(serve(merged, new, seconds=PATIENCE))
            time.sleep(SETTLE)
            phases.append(Phase(time.time(), frozenset({models[new]})))
            time.sleep(SETTLE)
        found = answers()
    print(f"{len(found)} answers; seconds to replace both pods: {took}")
    assert failed(found) == []
    assert serving.wrongly_answered(found, phases) == []
    assert {model for answer in found for model in answer.models} == set(models.values())
    for phase, end in zip(phases[2::2], [*(p.began for p in phases[3::2]), float("inf")], strict=True):
        alone = [answer for answer in found if phase.began < answer.began < end]
        assert alone, f"nobody was answered while {set(phase.models)} alone was served"
    assert available, "kubectl reported no change"
    assert min(available) >= 2, available
    after = serving.pods(merged)
    assert len(after) == 2
    assert {pod["metadata"]["labels"]["distillery.dev/student"] for pod in after.values()} == {"base"}
    assert all(set(serving.restarts(pod).values()) == {0} for pod in after.values())


def test_canary_has_its_own_server_when_weights_are_merged(merged: Namespace):
    models = serving.models(merged)
    serve(merged, 0, seconds=PATIENCE)
    analysis = {"minRequests": 20, "maxErrorRateIncrease": 0.2, "maxSlowRateIncrease": 0.4}
    with clients(merged) as answers:

        def put_forward(seconds: int) -> None:
            canary = {"steps": [{"weight": 50, "minDurationSeconds": seconds}], "analysis": analysis}
            serving.patch(merged, {"pinnedRound": None, "canary": canary})
            merged.wait_for("a server of its own", lambda: merged.get("deployment", f"{NAME}-canary"), seconds=PATIENCE)

        def wait_for_its_end() -> None:
            merged.wait_for("its end", lambda: not merged.get("deployment", f"{NAME}-canary"), seconds=PATIENCE)

        def share() -> int:
            return sum(models[1] in answer.models for answer in answers())

        put_forward(900)
        merged.wait_for("its share", lambda: share() > 20, seconds=PATIENCE)
        serving.patch(merged, {"pinnedRound": 0})
        wait_for_its_end()
        rolled_back = time.time()
        time.sleep(SETTLE)
        assert {model for a in answers() if a.began > rolled_back for model in a.models} == {models[0]}
        put_forward(10)
        serving.wait_until_served(merged, 1, seconds=PATIENCE)
        wait_for_its_end()
        served = time.time()
        time.sleep(SETTLE)
        found = answers()
    assert failed(found) == []
    assert {model for answer in found for model in answer.models} == set(models.values())
    assert {model for answer in found if answer.began > served for model in answer.models} == {models[1]}
    assert not [s for s in merged.list("services") if s["metadata"]["name"] == f"{NAME}-canary"]
    assert not [c for c in merged.list("configmaps") if c["metadata"]["name"] == f"{NAME}-canary"]
    assert merged.condition(NAME, "CanaryProgressing")["reason"] == "Promoted"
