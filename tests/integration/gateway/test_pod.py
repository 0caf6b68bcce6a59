"""The gateway and the syncer of a serving pod as processes, with the settings of the operator's manifests.

vLLM is a fake, and the kubelet a function that swaps a link as it does; tests/e2e has both.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from distillery.core.api import parse
from distillery.core.artifacts import store_at
from distillery.core.child_processes import free_port
from distillery.core.contracts.routing import Adapter
from distillery.core.contracts.traffic import Counts
from distillery.core.planner import Model, StageId
from distillery_operator.manifests import gateway
from distillery_operator.model.names import RunRef
from distillery_operator.settings import Settings
from tests.fakes.vllm import FakeVllm
from tests.unit.documents import document
from tests.unit.gateway.process import is_ready
from tests.unit.gateway.syncer.test_sync import publish

PATIENCE = 60.0


class Pod:
    """A serving pod's own processes."""

    def __init__(self, folder: Path, vllm: FakeVllm, session: aiohttp.ClientSession) -> None:
        self.owner = RunRef(parse(document(promotion={"weights": "adapter"})), "uid")
        uri = f"file://{folder}/store"
        self.store = store_at(uri, self.owner.identity, cache=folder)
        self.session = session
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.port, self.admin, self.syncer = free_port(), free_port(), free_port()
        self._mounted = folder / "desired"
        self._mounted.mkdir()
        self._local = {
            "DISTILLERY_UPSTREAM_URL": vllm.url,
            "DISTILLERY_PORT": str(self.port),
            "DISTILLERY_ADMIN_PORT": str(self.admin),
            "DISTILLERY_GATEWAY": f"http://127.0.0.1:{self.admin}",
            "DISTILLERY_SYNCER_PORT": str(self.syncer),
            "DISTILLERY_ROUTING_FILE": str(self._mounted / "desired"),
            "DISTILLERY_STORE_URI": uri,
            "DISTILLERY_ADAPTERS_DIR": str(folder / "adapters"),
        }

    def containers(self) -> list[dict[str, Any]]:
        """The containers of the manifest."""
        settings = Settings()
        return [
            gateway.syncer_container(self.owner, settings=settings),
            gateway.gateway_container(self.owner, gpu=False, settings=settings),
        ]

    async def start(self, container: dict[str, Any]) -> None:
        """Start a container of the manifest, with paths and ports of this machine in place of the pod's."""
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        local = {name: value for name, value in self._local.items() if name in variables}
        self.processes[container["name"]] = await asyncio.create_subprocess_exec(
            sys.executable, *container["command"][1:], env={**os.environ, **variables, **local}
        )

    def apply(self, student: Adapter | None, canary: gateway.CanaryRoute | None = None) -> int:
        """Write the ConfigMap and move its link, as the operator and the kubelet do. Return the generation."""
        model, digest = Model("base"), ""
        if student:
            model, digest = Model("student", StageId.parse(student.artifact)), student.digest
        routing = gateway.routing_document(self.owner, model, digest, adapter=True, canary=canary)
        files: dict[str, str] = gateway.config_map(self.owner, routing)["data"]
        folder = self._mounted / f"..{time.monotonic_ns()}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        (self._mounted / "..new").symlink_to(folder.name)
        (self._mounted / "..new").rename(self._mounted / "..data")
        for name in files:
            if not (self._mounted / name).is_symlink():
                (self._mounted / name).symlink_to(f"..data/{name}")
        return routing.generation

    async def ready(self) -> bool:
        """Return the result of the readiness probe."""
        return await is_ready(self.session, self.admin)

    async def state(self) -> dict[str, Any]:
        """Return the document that the operator polls."""
        async with self.session.get(f"http://127.0.0.1:{self.admin}/state") as answer:
            return await answer.json()

    async def generation(self) -> int:
        """Return the generation that is served."""
        return (await self.state())["generation"]

    async def problem(self) -> str:
        """Return the problem that the syncer reports; empty before it reports anything."""
        try:
            async with self.session.get(f"http://127.0.0.1:{self.syncer}/state") as answer:
                return (await answer.json())["problem"]
        except aiohttp.ClientError:
            return ""

    async def until_ready(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self.ready():  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def until_served(self, generation: int) -> float:
        """Seconds until the gateway serves a generation."""
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while await self.generation() != generation:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return time.monotonic() - started

    async def ask(self, *, stream: bool = False) -> tuple[int, str]:
        """Status and text of an answer."""
        body = {"model": "test", "messages": [], "stream": stream}
        async with self.session.post(f"http://127.0.0.1:{self.port}/v1/chat/completions", json=body) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def pod(vllm: FakeVllm, tmp_path: Path) -> AsyncGenerator[Pod]:
    async with aiohttp.ClientSession() as session:
        running = Pod(tmp_path, vllm, session)
        for container in running.containers():
            await running.start(container)
        yield running
        for process in running.processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


def student(pod: Pod, number: int) -> Adapter:
    return publish(pod.store, f"r{number}-train-distilled", float(number))


async def test_pod_answers_with_a_routed_model_during_promotions_under_load(pod: Pod, vllm: FakeVllm):
    choices = [student(pod, 1), student(pod, 2), None]
    names = [choice.name if choice else "base" for choice in choices]
    pod.apply(choices[0])
    await pod.until_ready()
    right, stop = {names[0]}, asyncio.Event()
    answered, wrong = 0, list[Any]()

    async def client() -> None:
        nonlocal answered
        while not stop.is_set():
            before = set(right)
            status, text = await pod.ask()
            if status != 200 or json.loads(text)["model"] not in before | right:
                wrong.append((status, text, before, set(right)))
            answered += 1
            await asyncio.sleep(0.005)

    clients = [asyncio.create_task(client()) for _ in range(4)]
    for number in range(1, 10):
        right.add(names[number % 3])
        assert await pod.until_served(pod.apply(choices[number % 3])) < 10
        right.intersection_update({names[number % 3]})
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*clients)
    assert answered > 100
    assert wrong == []


async def test_pod_counts_the_canary_apart_from_stable(pod: Pod):
    old, new = student(pod, 1), student(pod, 2)
    pod.apply(old)
    await pod.until_ready()
    canary = gateway.CanaryRoute(Model("student", StageId.parse(new.artifact)), new.digest, 50, "now", 10.0)
    await pod.until_served(pod.apply(old, canary))
    for number in range(20):
        headers = {"X-Session-ID": f"s-{number}"}
        body: dict[str, Any] = {"model": "test", "messages": []}
        url = f"http://127.0.0.1:{pod.port}/v1"
        async with pod.session.post(f"{url}/chat/completions", json=body, headers=headers) as answer:
            success = (await answer.json())["model"] == new.name
        outcome = {"model": "test", "session": f"s-{number}", "success": success}
        async with pod.session.post(f"{url}/outcomes", json=outcome) as answer:
            assert answer.status == 200
    traffic = {label: Counts.read(counts) for label, counts in (await pod.state())["traffic"].items()}
    before, after = traffic[old.digest[:12]], traffic[new.digest[:12]]
    assert before.requests + after.requests == before.outcomes + after.outcomes == 20
    assert (before.successes, after.successes) == (0, after.requests)
    assert after.requests


async def test_pod_serves_stable_when_the_canary_cannot_be_loaded(pod: Pod):
    old, new = student(pod, 1), student(pod, 2)
    canary = gateway.CanaryRoute(Model("student", StageId.parse(new.artifact)), "0" * 64, 50, "now", 10.0)
    generation = pod.apply(old, canary)
    await pod.until_ready()
    for _ in range(20):
        status, text = await pod.ask()
        assert (status, json.loads(text)["model"]) == (200, old.name)
    assert await pod.generation() == 0, "the step has not begun here"
    assert "digest" in await pod.problem()
    assert pod.apply(old) != generation
    await pod.until_served(pod.apply(old))


async def test_pod_is_not_ready_before_its_adapters_are_loaded(pod: Pod, vllm: FakeVllm):
    bad = student(pod, 1)
    generation = pod.apply(Adapter(bad.name, bad.artifact, "0" * 64))
    async with asyncio.timeout(PATIENCE):
        while "student" not in await pod.problem():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not await pod.ready()
    assert vllm.adapters == {}
    assert pod.apply(bad) != generation
    await pod.until_ready()


async def test_pod_serves_the_same_document_when_a_container_restarts(pod: Pod, vllm: FakeVllm):
    generation = pod.apply(student(pod, 1))
    await pod.until_ready()
    for container in pod.containers():
        pod.processes[container["name"]].kill()
        await pod.processes[container["name"]].wait()
        await pod.start(container)
        await pod.until_ready()
    assert await pod.until_served(generation) < PATIENCE


async def test_pod_is_not_ready_when_a_restarted_vllm_lacks_adapters(pod: Pod, vllm: FakeVllm):
    pod.apply(student(pod, 1))
    await pod.until_ready()
    pod.processes["syncer"].send_signal(signal.SIGSTOP)
    vllm.adapters.clear()
    async with asyncio.timeout(PATIENCE):
        while await pod.ready():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    pod.processes["syncer"].send_signal(signal.SIGCONT)
    await pod.until_ready()
    assert vllm.adapters
    await vllm._runner.cleanup()
    async with asyncio.timeout(PATIENCE):
        while await pod.ready():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_pod_answers_when_its_syncer_died(pod: Pod):
    pod.apply(student(pod, 1))
    await pod.until_ready()
    pod.processes["syncer"].kill()
    await pod.processes["syncer"].wait()
    for _ in range(30):
        assert await pod.ready()
        assert (await pod.ask())[0] == 200
        await asyncio.sleep(0.1)


async def test_gateway_finishes_running_requests_when_it_is_stopped(pod: Pod, vllm: FakeVllm):
    pod.apply(student(pod, 1))
    await pod.until_ready()
    vllm.pause = 0.5
    running = asyncio.create_task(pod.ask(stream=True))
    async with asyncio.timeout(PATIENCE):
        while not vllm.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    pod.processes["gateway"].send_signal(signal.SIGTERM)
    status, text = await running
    assert (status, text) == (200, "".join(["data: one\n\n", "data: étwo\n\n", "data: [DONE]\n\n"]))
    async with asyncio.timeout(PATIENCE):
        assert await pod.processes["gateway"].wait() in (0, -signal.SIGTERM)  # uvicorn ends by the signal it was sent


async def test_syncer_ends_when_it_is_stopped(pod: Pod):
    pod.apply(student(pod, 1))
    await pod.until_ready()
    pod.processes["syncer"].send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(pod.processes["syncer"].wait(), PATIENCE) == 0
