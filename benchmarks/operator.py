"""The operator with thousands of idle runs on a real API server: how soon it sees a new one, and what idling writes.

    python -m benchmarks.operator      on the cluster of the current kubeconfig, which no other operator looks after

The operator is a process of this machine, ``python -m distillery_operator.main``, and watches two namespaces, made for
this and deleted afterwards. Idle runs have ended: they are what gathers over the months. A new run is timed from
the answer to its creation to the first status that the operator wrote; one after the other, and each is deleted before
the next. No pod is admitted where the runs are (a quota), for nobody is to play here. Writes while idle are counted by
the API server: whether the version of any run changed. At last the same is measured with pods of other owners in the
second namespace, which no scheduler places: they should cost neither memory nor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import yaml

from benchmarks.support.figures import Figure, conclude, options
from distillery.core.api import GROUP, VERSION
from distillery.core.child_processes import die_with_parent, free_port
from distillery_operator.crd.generate import PLURAL
from distillery_operator.kube.client import ApiError, KubeClient
from distillery_operator.model import conditions
from distillery_operator.model.conditions import Conditions
from distillery_operator.model.objects import Manifest

ROOT = Path(__file__).parents[1]
NAMESPACE = "distillery-bench"
FOREIGN = "distillery-bench-foreign"
MANAGER = "distillery-bench"
AT_ONCE = 32
RUNS = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/{PLURAL}"
PATIENCE = 600.0


def document(name: str) -> Manifest:
    """A run with nothing special about it."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "DistillationRun",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"models": {"student": {"model": "/models/none"}}, "environment": {"name": "alfworld"}},
    }


def build_ended(name: str) -> Manifest:
    """The status of a run that ended long ago, as the operator left it."""
    now = "2026-01-01T00:00:00Z"
    held = Conditions((), now, generation=1)
    for kind, reason, message in (
        (conditions.ACCEPTED, "Valid", "The resource is valid."),
        (conditions.COMPLETE, "RoundsEnded", "All rounds ended."),
        (conditions.READY, "Complete", ""),
    ):
        held = held.set(kind, True, reason, message)
    status = {
        "phase": "Complete",
        "stage": "",
        "message": "",
        "conditions": held.to_status(),
        "observedGeneration": 1,
        "startTime": now,
        "completionTime": now,
    }
    return {**document(name), "spec": None, "status": status}


def foreign_pod(number: int) -> Manifest:
    """A pod of somebody else, of some 4 kB as the API server keeps it; no scheduler has the name that it waits for."""
    variables = [{"name": f"VARIABLE_{n}", "value": "value " * 8} for n in range(20)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"theirs-{number}", "namespace": FOREIGN, "labels": {"app": "theirs"}},
        "spec": {
            "schedulerName": "nobody",
            "serviceAccountName": "theirs",
            "automountServiceAccountToken": False,
            "containers": [{"name": name, "image": "theirs", "env": variables} for name in ("one", "two")],
        },
    }


class Place:
    """The namespace, and what is in it."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self.idle = 0

    async def make(self) -> None:
        """Make the namespace, where no pod is admitted."""
        crd = yaml.safe_load((ROOT / "crds" / f"{GROUP}_{PLURAL}.yaml").read_text())
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        try:
            await self._kube.request("GET", path)  # the chart's, where one is installed
        except ApiError as error:
            if error.status != 404:
                raise
            query = {"fieldManager": MANAGER, "force": "true"}
            await self._kube.request("PATCH", path, query=query, body=crd, content="application/apply-patch+yaml")
            async with asyncio.timeout(PATIENCE):
                while not await self._kube.serves(f"{GROUP}/{VERSION}", PLURAL):  # noqa: ASYNC110
                    await asyncio.sleep(0.5)
        for name in (NAMESPACE, FOREIGN):
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            await self._kube.request("POST", "/api/v1/namespaces", body=space)
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none"},
            "spec": {"hard": {"pods": "0"}},
        }
        await self._kube.request("POST", f"/api/v1/namespaces/{NAMESPACE}/resourcequotas", body=quota)

    async def remove(self) -> None:
        """Delete the namespaces with all that is in them."""
        for name in (NAMESPACE, FOREIGN):
            await self._kube.request("DELETE", f"/api/v1/namespaces/{name}")

    async def fill(self, number: int) -> None:
        """Have so many idle runs."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with room:
                await self._kube.request("POST", RUNS, body=document(name))
                await self._kube.apply_status({k: v for k, v in build_ended(name).items() if k != "spec"})

        await asyncio.gather(*(one(f"idle-{n}") for n in range(self.idle, number)))
        self.idle = number

    async def crowd(self, number: int) -> None:
        """Make so many pods of others."""
        room, pods = asyncio.Semaphore(AT_ONCE), f"/api/v1/namespaces/{FOREIGN}/pods"
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "theirs"}}
        await self._kube.request("POST", f"/api/v1/namespaces/{FOREIGN}/serviceaccounts", body=account)

        async def one(number: int) -> None:
            async with room:
                await self._kube.request("POST", pods, body=foreign_pod(number))

        await asyncio.gather(*map(one, range(number)))

    async def versions(self) -> dict[str, str]:
        """The version of every run."""
        found = await self._kube.request("GET", RUNS)
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in found["items"]}

    async def first_look(self, name: str) -> float:
        """Seconds from a run's creation to the first status that it has."""
        made = await self._kube.request("POST", RUNS, body=document(name))
        created = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                while not made.get("status", {}).get("conditions"):
                    await asyncio.sleep(0.01)
                    made = await self._kube.request("GET", f"{RUNS}/{name}")
            return time.monotonic() - created
        finally:
            # its objects later, if at all: an API server without controllers has nobody to delete them first
            await self._kube.request("DELETE", f"{RUNS}/{name}")


@contextlib.asynccontextmanager
async def operator() -> AsyncGenerator[tuple[str, int]]:
    """An operator that leads: the address of its metrics, and its process. Cancels the caller's task if it ends."""
    port = free_port()
    watched = f"{NAMESPACE},{FOREIGN}"
    settings = {"DISTILLERY_NAMESPACE": NAMESPACE, "DISTILLERY_NAMESPACES": watched, "DISTILLERY_PORT": str(port)}
    command = [sys.executable, "-m", "distillery_operator.main"]
    environment = {**os.environ, **settings, "DISTILLERY_LOG_LEVEL": "WARNING"}
    process = await asyncio.create_subprocess_exec(*command, env=environment, preexec_fn=die_with_parent)
    within = asyncio.current_task()
    assert within is not None
    ended = asyncio.create_task(process.wait())
    ended.add_done_callback(lambda task: task.cancelled() or within.cancel("the operator ended"))
    try:
        yield f"http://127.0.0.1:{port}/metrics", process.pid
    finally:
        ended.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def metric(url: str, name: str) -> float:
    """The sum of a metric over its labels; 0 before there is one."""
    with contextlib.suppress(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)
    return 0.0


def memory_of(pid: int) -> float:
    """Resident memory of a process in MB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1000


async def measure(place: Place, *, idle: int, new: int, seconds: float) -> dict[str, Any]:
    """Times of new runs next to so many idle ones, how many of these were written meanwhile, and the memory it took."""
    await place.fill(idle)
    async with operator() as (metrics, pid):
        started = time.monotonic()
        while await metric(metrics, "distillery_runs") < idle:
            if time.monotonic() - started > PATIENCE:
                raise RuntimeError("the operator does not see the runs")
            await asyncio.sleep(0.2)
        await place.first_look(f"warm-up-{idle}")
        seen = time.monotonic() - started
        before = await place.versions()
        times = [await place.first_look(f"new-{idle}-{number}") for number in range(new)]
        await asyncio.sleep(seconds)
        after = await place.versions()
        writes = sum(after.get(name) != version for name, version in before.items() if name.startswith("idle-"))
        memory = memory_of(pid)
        return {"idle": idle, "seconds": sorted(times), "started": seen, "writes": writes, "memory": memory}


async def benchmark(*, few: int, many: int, foreign: int, new: int, seconds: float) -> list[dict[str, Any]]:
    """Both numbers of idle runs one after the other, then the larger one with pods of others."""
    async with KubeClient() as kube:
        place = Place(kube)
        await place.make()
        try:
            found = [await measure(place, idle=idle, new=new, seconds=seconds) for idle in (few, many)]
            await place.crowd(foreign)
            return [*found, await measure(place, idle=many, new=new, seconds=seconds)]
        finally:
            await place.remove()


def main() -> None:
    """Measure, and tell."""
    chosen = options(__doc__).parse_args()
    few, many, foreign, new, seconds = (10, 200, 500, 20, 5.0) if chosen.short else (100, 5000, 8000, 200, 60.0)
    try:
        small, large, crowded = asyncio.run(benchmark(few=few, many=many, foreign=foreign, new=new, seconds=seconds))
    except ApiError as error:
        sys.exit(f"the API server refuses: {error}")
    n, looked = f"{new} new runs each", f"first reconcile of a new run, {many:,} idle runs"
    p99 = [float(np.percentile(found["seconds"], 99, method="inverted_cdf")) for found in (small, large, crowded)]
    others = f"with {foreign:,} pods of other owners"
    watched = f"{many:,} runs, while {new} runs were created and deleted, and for {seconds:.0f} s after"
    figures = [
        Figure(f"{looked}, p50", float(np.percentile(large["seconds"], 50, method="inverted_cdf")), n, unit="s"),
        # a machine that is busy is slow with any number of runs: what the operator adds is the ratio below
        Figure(f"{looked}, p99", p99[1], n, most=1, unit="s", room=5),
        Figure(f"{looked}, p99, relative to {few:,} idle runs", p99[1] / p99[0], n, most=1.5, room=2),
        Figure(f"{looked}, p99, {others}", p99[2], n, most=1, unit="s", room=5),
        Figure(f"memory, {others}", crowded["memory"] - large["memory"], "1 start each", most=20, unit="MB"),
        Figure("writes to idle runs", large["writes"], watched, most=0, room=1),
        Figure(f"operator start to first reconcile, {many:,} idle runs", large["started"], "1 start", unit="s"),
    ]
    conclude("operator", figures, chosen, {"few": small, "many": large, "crowded": crowded})


if __name__ == "__main__":
    main()
