"""The logs of a run on a cluster, by kubectl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distillery.cli.commands import cluster_logs
from distillery.cli.commands.cluster_logs import LogStream, choose_stage, find_newest_pods, list_streams
from tests.unit.cli.calling import call

pytestmark = pytest.mark.usefixtures("nothing_here")


def record(name: str, phase: str, start: str = "") -> dict[str, Any]:
    return {"name": name, "phase": phase, **({"job": f"a-{name}-0", "startTime": start} if start else {})}


@pytest.mark.parametrize(
    ("records", "chosen"),
    [
        ([record("prepare", "Succeeded", "1"), record("r1-rollout", "Running", "2")], "r1-rollout"),
        ([record("r1-teach", "Running", "5"), record("r1-train-sft", "Running", "6")], "r1-train-sft"),
        ([record("r1-hints", "Failed", "3"), record("r1-rollout", "Succeeded", "4")], "r1-hints"),
        ([record("r1-promote", "Succeeded", "9"), record("r1-rollout", "Succeeded", "2")], "r1-promote"),
        ([record("prepare", "Succeeded", "1"), record("r1-rollout", "Pending")], "prepare"),
        ([record("prepare", "Pending")], None),
        ([], None),
    ],
)
def test_stage_of_interest_runs_or_failed_or_started_last(records: list[dict[str, Any]], chosen: str | None):
    assert choose_stage(records) == chosen


def pod(name: str, job: str = "job-1", index: int = 0, created: str = "2026-11-30T10:00:00Z", **more: Any) -> Any:
    """Return a pod of a stage, of a worker without a model server."""
    labels = {"batch.kubernetes.io/job-name": job, "batch.kubernetes.io/job-completion-index": str(index)}
    metadata = {"name": name, "creationTimestamp": created, "labels": labels}
    state = {"terminated": {"exitCode": 0}}
    status = {"phase": "Succeeded", "containerStatuses": [{"name": "worker", "state": state}], **more}
    return {"metadata": metadata, "spec": {}, "status": status}


def test_newest_pods_are_of_the_last_job_one_for_each_worker():
    pods = [
        pod("old", "job-1", created="2026-11-30T10:00:00Z"),
        pod("first", "job-2", created="2026-11-30T11:00:00Z"),
        pod("second", "job-2", 1, created="2026-11-30T11:00:00Z"),
        pod("first-again", "job-2", created="2026-11-30T11:05:00Z"),
    ]
    assert [one["metadata"]["name"] for one in find_newest_pods(pods)] == ["first-again", "second"]
    assert find_newest_pods([]) == []


RUNNING, WAITING = {"running": {}}, {"waiting": {"reason": "PodInitializing"}}
DONE, FAILED = {"terminated": {"exitCode": 0}}, {"terminated": {"exitCode": 1}}


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        ({"fetch": DONE, "server": RUNNING, "worker": RUNNING}, ["server", "worker"]),
        ({"fetch": DONE, "server": RUNNING, "worker": WAITING}, ["server"]),
        ({"fetch": DONE, "server": DONE, "worker": DONE}, ["server", "worker"]),
        ({"fetch": RUNNING, "server": WAITING, "worker": WAITING}, ["fetch"]),
        ({"fetch": FAILED, "server": WAITING, "worker": WAITING}, ["fetch"]),
        ({"fetch": WAITING, "server": WAITING, "worker": WAITING}, []),
    ],
)
def test_streams_are_of_started_containers_without_finished_downloads(
    states: dict[str, dict[str, Any]], chosen: list[str]
):
    one = pod("p")
    one["spec"] = {"initContainers": [{"name": "fetch"}, {"name": "server", "restartPolicy": "Always"}]}
    statuses = [{"name": name, "state": state} for name, state in states.items()]
    one["status"] = {"phase": "Running", "initContainerStatuses": statuses[:2], "containerStatuses": statuses[2:]}
    assert list_streams(one) == [LogStream("p", name) for name in chosen]


def test_streams_include_a_container_that_restarts():
    statuses = [{"name": "worker", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 2}]
    assert list_streams(pod("p", containerStatuses=statuses)) == [LogStream("p", "worker")]


@pytest.fixture
def cluster(kubectl: Path) -> Path:
    """Return a run whose stage r1-rollout has two workers."""
    stages = [record("prepare", "Succeeded", "1"), record("r1-rollout", "Running", "2")]
    (kubectl / "answer").write_text(json.dumps({"status": {"stages": stages}}))
    (kubectl / "pods").write_text(json.dumps({"items": [pod("p0"), pod("p1", index=1)]}))
    (kubectl / "logs").write_text("a line\n")
    return kubectl


def asked(kubectl: Path) -> list[str]:
    return (kubectl / "asked").read_text().splitlines()


def test_logs_print_every_worker_of_the_running_stage(cluster: Path, capfd: pytest.CaptureFixture[str]):
    assert call("logs", "team/a", "--context", "prod", "--tail", "5") == 0
    where = "--namespace=team --context=prod"
    assert asked(cluster) == [
        f"get distillationruns.distillery.dev a --output=json {where}",
        f"get pods --selector=distillery.dev/run=a,distillery.dev/stage=r1-rollout --output=json {where}",
        f"logs p0 --container=worker --tail=5 --prefix {where}",
        f"logs p1 --container=worker --tail=5 --prefix {where}",
    ]
    shown = capfd.readouterr()
    assert shown.out == "a line\n" * 2
    assert shown.err == "log of r1-rollout, pods p0, p1; other stages: prepare\n"


def test_logs_of_one_container_have_no_prefix(cluster: Path, capfd: pytest.CaptureFixture[str]):
    (cluster / "pods").write_text(json.dumps({"items": [pod("p0")]}))
    assert call("logs", "a", "r1-rollout") == 0
    assert asked(cluster)[-1] == "logs p0 --container=worker"
    assert capfd.readouterr() == ("a line\n", "log of r1-rollout, pod p0\n")


def test_logs_follow_containers_that_start_later_until_all_ended(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    waiting = {"items": [pod("p0", phase="Pending", containerStatuses=[{"name": "worker", "state": WAITING}])]}
    (cluster / "pods").write_text(json.dumps(waiting))

    async def pass_time(seconds: float) -> None:
        (cluster / "pods").write_text(json.dumps({"items": [pod("p0")]}))

    monkeypatch.setattr(cluster_logs, "_pause", pass_time)
    assert call("logs", "a", "--follow") == 0
    assert [line for line in asked(cluster) if line.startswith("logs")] == [
        "logs p0 --container=worker --prefix --follow"
    ]
    assert capfd.readouterr().out == "a line\n"


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_logs_stop_kubectl_when_they_are_interrupted(cluster: Path, follow: tuple[str, ...]):
    answering = (cluster / "kubectl").read_text().removeprefix("#!/bin/sh\n")
    interrupting = 'if [ "$1" = logs ]; then kill -INT $PPID; exec sleep 60; fi'
    (cluster / "kubectl").write_text(f"#!/bin/sh\n{interrupting}\n{answering}")
    program = "from distillery.cli.main import main; main()"
    command = [sys.executable, "-c", program, "logs", "a", "r1-rollout", *follow]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "log of r1-rollout, pods p0, p1\ninterrupted\n"


@pytest.mark.parametrize(
    ("arguments", "answer", "reported"),
    [
        ("logs a", {}, "no stage of run a has started; kubectl describe drun a shows why"),
        ("logs team/a", {}, "no stage of run team/a has started; kubectl describe drun a --namespace=team shows why"),
        ("logs a r1-rolout", {"stages": [record("r1-rollout", "Running", "1")]}, "did you mean r1-rollout?"),
        (
            "logs a r1-rollout",
            {"stages": [record("r1-rollout", "Running", "1")]},
            "stage r1-rollout of run a has no pods: they wait for quota, or were deleted with their Job; "
            "kubectl describe job a-r1-rollout-0 shows its events",
        ),
        (
            "logs a r1-rollout",
            {"stages": [record("r1-rollout", "Pending")]},
            "stage r1-rollout of run a has not started; kubectl describe drun a shows why",
        ),
    ],
)
def test_logs_explain_why_there_are_none(
    arguments: str, answer: dict[str, Any], reported: str, kubectl: Path, capsys: pytest.CaptureFixture[str]
):
    (kubectl / "answer").write_text(json.dumps({"status": answer}))
    (kubectl / "pods").write_text(json.dumps({"items": []}))
    assert call(*arguments.split()) == 1
    assert reported in capsys.readouterr().err


def test_logs_explain_why_there_are_none_when_no_container_started(cluster: Path, capsys: pytest.CaptureFixture[str]):
    waiting = pod("p0", phase="Pending", containerStatuses=[])
    (cluster / "pods").write_text(json.dumps({"items": [waiting]}))
    assert call("logs", "a") == 1
    assert "no container of pod p0 has started; kubectl describe pod p0 shows why" in capsys.readouterr().err


def test_logs_report_what_kubectl_reports_when_there_is_no_such_run(kubectl: Path, capsys: pytest.CaptureFixture[str]):
    (kubectl / "refusal").write_text('Error from server (NotFound): distillationruns.distillery.dev "a" not found\n')
    assert call("logs", "a") == 1
    assert capsys.readouterr().err == 'Error from server (NotFound): distillationruns.distillery.dev "a" not found\n'


def test_logs_fail_when_kubectl_can_not_print_one(cluster: Path, capfd: pytest.CaptureFixture[str]):
    program = (cluster / "kubectl").read_text()
    (cluster / "kubectl").write_text(f'{program}test "$1" != logs || {{ echo refused >&2; exit 1; }}\n')
    assert call("logs", "a") == 1
    assert "refused" in capfd.readouterr().err


def test_logs_name_kubectl_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert call("logs", "a") == 1
    assert capsys.readouterr().err == "runs on a cluster need kubectl, which is not installed here\n"
