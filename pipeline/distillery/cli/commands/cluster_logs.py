"""``distillery logs`` for runs on a cluster: kubectl prints the logs of a stage's pods."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from asyncio.subprocess import Process
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distillery.cli.commands import cluster
from distillery.cli.errors import EXIT_FAILED, build_describe_command, build_scope, complain
from distillery.core.api import RUN_LABEL, STAGE_LABEL
from distillery.core.api.problems import lookup, suggest_name

_JOB_LABEL, _INDEX_LABEL = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"
_POLL_SECONDS = 2.0
_pause = asyncio.sleep

_Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LogStream:
    """The log of one container of a pod."""

    pod: str
    container: str


async def show_logs(options: argparse.Namespace) -> int:
    """Print the logs of the newest attempt at a stage, and with ``--follow`` what is added to them.

    Raises:
        RuntimeError: there is no such run, or no kubectl.
    """
    document = cluster.read_run(options.run, context=options.context)
    records = {record["name"]: record for record in lookup(document, "status.stages") or []}
    stage = options.stage or choose_stage(records.values())
    if stage is None:
        describe = build_describe_command(options.run, options.context)
        return complain(f"no stage of run {options.run} has started; {describe} shows why", EXIT_FAILED)
    viewer = _Viewer(options, stage)
    pods = viewer.pods()
    if not pods:
        return complain(_without_pods(options, stage, records), EXIT_FAILED)
    names = [pod["metadata"]["name"] for pod in pods]
    others = ", ".join(name for name in records if name != stage)
    more = f"; other stages: {others}" if others and not options.stage else ""
    print(f"log of {stage}, pod{'s' * (len(names) > 1)} {', '.join(names)}{more}", file=sys.stderr)
    if options.follow:
        return await viewer.follow(pods)
    if not any(map(list_streams, pods)):
        describe = " ".join(["kubectl describe pod", names[0], *build_scope(options.run, options.context)])
        return complain(f"no container of pod {names[0]} has started; {describe} shows why", EXIT_FAILED)
    return await viewer.print(pods)


def choose_stage(records: Iterable[_Object]) -> str | None:
    """Return the stage whose log a user wants who names none: it runs, else it failed, else it started last."""
    started = sorted((record for record in records if record.get("startTime")), key=lambda one: one["startTime"])
    for phase in ("Running", "Failed"):
        if some := [record for record in started if record["phase"] == phase]:
            return some[-1]["name"]
    return started[-1]["name"] if started else None


def find_newest_pods(pods: Iterable[_Object]) -> list[_Object]:
    """Return the pods of a stage's last Job, and of each worker the last one, in the order of workers."""
    ordered = sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])
    workers = dict[int, _Object]()
    for pod in ordered:
        labels = pod["metadata"].get("labels", {})
        if labels.get(_JOB_LABEL) == ordered[-1]["metadata"].get("labels", {}).get(_JOB_LABEL):
            workers[int(labels.get(_INDEX_LABEL, 0))] = pod
    return [workers[index] for index in sorted(workers)]


def list_streams(pod: _Object) -> list[LogStream]:
    """Return the logs that a pod has, without those of init containers that succeeded. The worker's is the last."""
    sidecars = {
        container["name"]
        for container in pod["spec"].get("initContainers", [])
        if container.get("restartPolicy") == "Always"
    }
    status = pod["status"]
    initial = [
        one
        for one in status.get("initContainerStatuses", [])
        if one["name"] in sidecars or lookup(one, "state.terminated.exitCode") != 0
    ]
    return [
        LogStream(pod["metadata"]["name"], one["name"])
        for one in (*initial, *status.get("containerStatuses", []))
        if one.get("restartCount") or one.get("state", {}).keys() & {"running", "terminated"}
    ]


def _without_pods(options: argparse.Namespace, stage: str, records: Mapping[str, _Object]) -> str:
    if stage not in records:
        names = f"; {suggest_name(stage, list(records))}" if records else ""
        return f"there are no pods of a stage {stage} of run {options.run}{names}"
    if job := records[stage].get("job"):
        describe = " ".join(["kubectl describe job", job, *build_scope(options.run, options.context)])
        return (
            f"stage {stage} of run {options.run} has no pods: they wait for quota, or were deleted with their Job; "
            f"{describe} shows its events"
        )
    describe = build_describe_command(options.run, options.context)
    return f"stage {stage} of run {options.run} has not started; {describe} shows why"


class _Viewer:
    """A printer of the logs of one stage of a run."""

    def __init__(self, options: argparse.Namespace, stage: str) -> None:
        self._options = options
        self._stage = stage
        self._scope = build_scope(options.run, options.context)

    def pods(self) -> list[_Object]:
        """Return the pods of the newest attempt. Raises RuntimeError."""
        _, _, name = self._options.run.rpartition("/")
        selector = f"--selector={RUN_LABEL}={name},{STAGE_LABEL}={self._stage}"
        output = cluster.run_kubectl("get", "pods", selector, "--output=json", *self._scope)
        return find_newest_pods(json.loads(output)["items"])

    async def print(self, pods: Sequence[_Object]) -> int:
        """Print one log after the other."""
        streams = [stream for pod in pods for stream in list_streams(pod)]
        prefix = ["--prefix"] if len(streams) > 1 else []
        codes = [await _wait(await self._start(stream, prefix)) for stream in streams]
        return EXIT_FAILED if any(codes) else 0

    async def follow(self, pods: Sequence[_Object]) -> int:
        """Print all logs at once, those of containers that start later too, until every pod ended."""
        processes = dict[LogStream, Process]()
        try:
            while True:
                for stream in (stream for pod in pods for stream in list_streams(pod) if stream not in processes):
                    processes[stream] = await self._start(stream, ["--prefix", "--follow"])
                if all(pod["status"].get("phase") in ("Succeeded", "Failed") for pod in pods):
                    codes = [await _wait(process) for process in processes.values()]
                    return EXIT_FAILED if any(codes) else 0
                await _pause(_POLL_SECONDS)
                pods = self.pods()
        finally:
            for process in processes.values():
                await _stop(process)

    async def _start(self, stream: LogStream, arguments: Sequence[str]) -> Process:
        """Start a kubectl that prints a log to this program's standard output."""
        tail = [] if self._options.tail is None else [f"--tail={self._options.tail}"]
        return await asyncio.create_subprocess_exec(
            "kubectl", "logs", stream.pod, f"--container={stream.container}", *tail, *arguments, *self._scope
        )


async def _wait(process: Process) -> int:
    """Return the exit code of a process, which ends with this task."""
    try:
        return await process.wait()
    finally:
        await _stop(process)


async def _stop(process: Process) -> None:
    """Stop a process. asyncio warns of one that outlives its loop."""
    if process.returncode is None:
        process.terminate()
        await process.wait()
