"""A promotion and a rollback of an adapter, on every replica, under load from the openai client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import openai
import pytest

from tests.e2e.cluster import RUN, Cluster, Namespace
from tests.e2e.conftest import namespace
from tests.e2e.documents import small
from tests.e2e.test_loop import TASK

NAME = "adapters"
FLIPS = 20
SECONDS_TO_ALL_REPLICAS = 10.0
PAUSE = 0.2  # of a client between requests: what is measured is not how a machine does without any time to spare


@pytest.fixture(scope="module")
def team(cluster: Cluster, operator: Namespace) -> Generator[Namespace]:
    """A user's namespace with a run that ended, whose student two replicas serve as an adapter."""
    with namespace(cluster, "e2e-serving") as made:
        made.apply(small(NAME, promotion={"weights": "adapter", "round": 1, "service": {"replicas": 2}}))
        made.wait_for("the end", lambda: made.condition(NAME, "Complete").get("status") == "True", run=NAME)
        yield made


def serve(team: Namespace, number: int, student: str) -> float:
    """Have a round's student served; seconds until the operator says that all replicas serve it."""
    started = time.monotonic()
    patch = json.dumps({"spec": {"promotion": {"round": number}}})
    team.kubectl("patch", RUN, NAME, "--type=merge", f"--patch={patch}")

    def served() -> bool:
        status = team.status(NAME)
        holds = {c["type"]: c["status"] for c in status["conditions"]}
        return status["serving"]["student"] == student and holds["Serving"] == "True"

    team.wait_for(f"{student} on all replicas", served, seconds=300)
    return time.monotonic() - started


def pods(team: Namespace) -> dict[str, Any]:
    """The serving pods by name, but for those on their way out."""
    found = team.list("pods", f"distillery.dev/run={NAME},app.kubernetes.io/component=serving")
    return {pod["metadata"]["name"]: pod for pod in found if not pod["metadata"].get("deletionTimestamp")}


@contextmanager
def load(team: Namespace, right: set[str]) -> Generator[tuple[list[int], list[str]]]:
    """Streamed requests to every replica, at a steady rate; how many, and what was wrong with which."""
    answered, wrong, stop = list[int](), list[str](), threading.Event()

    def ask(address: str) -> None:
        client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=120)
        messages: Any = [{"role": "user", "content": TASK}]
        while not stop.wait(PAUSE):
            before = set(right)
            try:
                stream = client.chat.completions.create(
                    model=NAME, messages=messages, temperature=0, max_tokens=8, stream=True
                )
                models = {chunk.model for chunk in stream}
            except openai.OpenAIError as error:
                wrong.append(repr(error))
                continue
            answered.append(1)
            if len(models) != 1 or not models <= before | right:
                wrong.append(f"{models} answered, not one of {before | right}")

    with ExitStack() as stack:
        addresses = [stack.enter_context(team.forward(f"pod/{name}", 8000)) for name in pods(team)]
        threads = [threading.Thread(target=ask, args=(address,)) for address in addresses for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield answered, wrong
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def test_promotions_and_rollbacks_drop_no_request_and_restart_nothing(team: Namespace):
    (ended,) = team.status(NAME)["rounds"]
    students = {1: ended["student"][:12], 0: "base"}
    names = {1: f"student-{students[1]}", 0: "base"}
    before = pods(team)
    assert len(before) == 2
    right, took = {names[1]}, list[float]()
    with load(team, right) as (answered, wrong):
        for flip in range(FLIPS):
            number = flip % 2
            right.add(names[number])
            took.append(serve(team, number, students[number]))
            right.intersection_update({names[number]})
            time.sleep(1)
    assert wrong == []
    assert len(answered) > FLIPS
    after = pods(team)
    assert {p["metadata"]["uid"] for p in after.values()} == {p["metadata"]["uid"] for p in before.values()}
    for pod in after.values():
        for container in (*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]):
            assert container["restartCount"] == 0
    assert len(team.status(NAME)["serving"]["history"]) == 20
    limits = json.dumps({"spec": {"promotion": {"service": {"gateway": {"limits": {"maxTokens": 512}}}}}})

    def replace() -> None:
        generation = team.get("deployment", NAME)["metadata"]["generation"]
        team.kubectl("patch", RUN, NAME, "--type=merge", f"--patch={limits}")
        team.wait_for("new pods", lambda: team.get("deployment", NAME)["metadata"]["generation"] > generation)
        team.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=1200s")

    rolling = timed(replace)
    print(f"to all replicas: {sorted(took)} s; a rolling update of the same pods: {rolling:.1f} s")
    assert max(took) <= SECONDS_TO_ALL_REPLICAS
    assert median(took) <= 0.1 * rolling


def test_vllm_is_not_reached_past_the_gateway(team: Namespace):
    name, pod = next(iter(pods(team).items()))
    for path in ("/v1/load_lora_adapter", "/metrics", "/collective_rpc", "/v1/../health"):
        probe = (
            "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8000); "
            f"c.request('POST', {path!r}, '{{}}'); print(c.getresponse().status)"
        )
        assert team.kubectl("exec", name, "--container=gateway", "--", "python3", "-c", probe).strip() == "404"
    probe = f"import socket; socket.create_connection(({pod['status']['podIP']!r}, 8001), 5)"
    done = team.try_kubectl("exec", name, "--container=gateway", "--", "python3", "-c", probe)
    assert "ConnectionRefusedError" in done.stderr
