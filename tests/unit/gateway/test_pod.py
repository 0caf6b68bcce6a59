"""The gateway and the syncer of a serving pod as processes, told what the operator's manifests tell them.

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
from distillery.core.planner import Model, StageId
from distillery.serving.process import free_port
from distillery_gateway.routing.document import Adapter
from distillery_operator.decide.canary.analysis import Counts
from distillery_operator.manifests import gateway
from distillery_operator.manifests.names import RunRef
from distillery_operator.settings import Settings
from tests.fakes.vllm import FakeVllm
from tests.unit.documents import document
from tests.unit.gateway.process import is_ready
from tests.unit.gateway.syncer.test_syncer import publish

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
        self._there = {
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
        """As the operator makes them."""
        settings = Settings()
        return [
            gateway.syncer(self.owner, settings=settings),
            gateway.gateway(self.owner, gpu=False, settings=settings),
        ]

    async def start(self, made: dict[str, Any]) -> None:
        """Start a container of the manifest, with places of this machine for the pod's."""
        told = {variable["name"]: variable["value"] for variable in made["env"]}
        places = {name: value for name, value in self._there.items() if name in told}
        self.processes[made["name"]] = await asyncio.create_subprocess_exec(
            sys.executable, *made["command"][1:], env={**os.environ, **told, **places}
        )

    def tell(self, student: Adapter | None, newcomer: gateway.Newcomer | None = None) -> int:
        """As the operator and the kubelet do: the ConfigMap's content, and a link that moves. The generation."""
        model, digest = Model("base"), ""
        if student:
            model, digest = Model("student", StageId.parse(student.artifact)), student.digest
        wanted = gateway.desired(self.owner, model, digest, adapter=True, newcomer=newcomer)
        made = gateway.config_map(self.owner, wanted)
        folder = self._mounted / f"..{time.monotonic_ns()}"
        folder.mkdir()
        for name, content in made["data"].items():
            (folder / name).write_text(content)
        (self._mounted / "..new").symlink_to(folder.name)
        (self._mounted / "..new").rename(self._mounted / "..data")
        for name in made["data"]:
            if not (self._mounted / name).is_symlink():
                (self._mounted / name).symlink_to(f"..data/{name}")
        return wanted["generation"]

    async def ready(self) -> bool:
        """What the kubelet is told at the readiness probe."""
        return await is_ready(self.session, self.admin)

    async def state(self) -> dict[str, Any]:
        """What the operator is told."""
        async with self.session.get(f"http://127.0.0.1:{self.admin}/state") as answer:
            return await answer.json()

    async def generation(self) -> int:
        """Of what is served."""
        return (await self.state())["generation"]

    async def problem(self) -> str:
        """What the syncer says is wrong; empty before it says anything."""
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
        made = Pod(tmp_path, vllm, session)
        for container in made.containers():
            await made.start(container)
        yield made
        for process in made.processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


def student(pod: Pod, number: int) -> Adapter:
    return publish(pod.store, f"r{number}-train-distilled", float(number))


async def test_promotions_and_rollbacks_under_load_fail_no_request_and_answer_none_wrongly(pod: Pod, vllm: FakeVllm):
    choices = [student(pod, 1), student(pod, 2), None]
    names = [choice.name if choice else "base" for choice in choices]
    pod.tell(choices[0])
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
        assert await pod.until_served(pod.tell(choices[number % 3])) < 10
        right.intersection_update({names[number % 3]})
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*clients)
    assert answered > 100
    assert wrong == []


async def test_a_newcomer_is_counted_beside_the_incumbent_as_the_operator_reads_it(pod: Pod):
    old, new = student(pod, 1), student(pod, 2)
    pod.tell(old)
    await pod.until_ready()
    tried = gateway.Newcomer(Model("student", StageId.parse(new.artifact)), new.digest, 50, "now", 10.0)
    await pod.until_served(pod.tell(old, tried))
    for number in range(20):
        headers = {"X-Session-ID": f"s-{number}"}
        body: dict[str, Any] = {"model": "test", "messages": []}
        url = f"http://127.0.0.1:{pod.port}/v1"
        async with pod.session.post(f"{url}/chat/completions", json=body, headers=headers) as answer:
            success = (await answer.json())["model"] == new.name
        outcome = {"model": "test", "session": f"s-{number}", "success": success}
        async with pod.session.post(f"{url}/outcomes", json=outcome) as answer:
            assert answer.status == 200
    live = {label: Counts.read(said) for label, said in (await pod.state())["traffic"].items()}
    before, after = live[old.digest[:12]], live[new.digest[:12]]
    assert before.requests + after.requests == before.outcomes + after.outcomes == 20
    assert (before.successes, after.successes) == (0, after.requests)
    assert after.requests


async def test_a_newcomer_that_can_not_be_had_keeps_no_pod_from_serving(pod: Pod):
    old, new = student(pod, 1), student(pod, 2)
    tried = gateway.Newcomer(Model("student", StageId.parse(new.artifact)), "0" * 64, 50, "now", 10.0)
    generation = pod.tell(old, tried)
    await pod.until_ready()
    for _ in range(20):
        status, text = await pod.ask()
        assert (status, json.loads(text)["model"]) == (200, old.name)
    assert await pod.generation() == 0, "the step has not begun here"
    assert "digest" in await pod.problem()
    assert pod.tell(old) != generation
    await pod.until_served(pod.tell(old))


async def test_nothing_is_ready_before_the_adapters_are(pod: Pod, vllm: FakeVllm):
    bad = student(pod, 1)
    generation = pod.tell(Adapter(bad.name, bad.artifact, "0" * 64))
    async with asyncio.timeout(PATIENCE):
        while "student" not in await pod.problem():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert not await pod.ready()
    assert vllm.adapters == {}
    assert pod.tell(bad) != generation
    await pod.until_ready()


async def test_a_container_that_started_again_goes_on_with_what_is_desired(pod: Pod, vllm: FakeVllm):
    generation = pod.tell(student(pod, 1))
    await pod.until_ready()
    for made in pod.containers():
        pod.processes[made["name"]].kill()
        await pod.processes[made["name"]].wait()
        await pod.start(made)
        await pod.until_ready()
    assert await pod.until_served(generation) < PATIENCE


async def test_a_vllm_that_started_again_gets_no_requests_before_it_holds_what_it_should(pod: Pod, vllm: FakeVllm):
    pod.tell(student(pod, 1))
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


async def test_a_pod_whose_syncer_died_serves_on(pod: Pod):
    pod.tell(student(pod, 1))
    await pod.until_ready()
    pod.processes["syncer"].kill()
    await pod.processes["syncer"].wait()
    for _ in range(30):
        assert await pod.ready()
        assert (await pod.ask())[0] == 200
        await asyncio.sleep(0.1)


async def test_what_is_under_way_is_finished_when_the_gateway_is_told_to_end(pod: Pod, vllm: FakeVllm):
    pod.tell(student(pod, 1))
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


async def test_the_syncer_ends_when_it_is_told_to(pod: Pod):
    pod.tell(student(pod, 1))
    await pod.until_ready()
    pod.processes["syncer"].send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(pod.processes["syncer"].wait(), PATIENCE) == 0
