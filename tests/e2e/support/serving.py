"""A student that two replicas serve: what tests do with it, and who asks it meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from distillery.core.model_servers import student_name
from hack.testbed.client import workloads
from tests.e2e.support.cluster import RUN, Namespace
from tests.e2e.support.documents import GATE, TASK, small

NAME = "served"
SERVICE = "the Service"
PAUSE = 0.2  # of a client between requests: what is measured is not how a machine does without any time to spare
MESSAGES: Any = [{"role": "user", "content": TASK}]

TRAIN, EVALUATE = 48, 64
"""Tasks; enough for a student that is sure to beat the base model: only a promoted student becomes a canary."""

FAILURES = 3
"""Of users, that start the next round."""

_CLIENTS = "clients"


def begin(team: Namespace, weights: str, **spec: Any) -> None:
    """Apply a run that plays a round, whose student two replicas then serve, whatever the gate said of it."""
    serving = {"pinnedRound": 1, "replicas": 2, **spec.pop("serving", {})}
    promotion = {"gate": GATE, "weights": weights}
    team.apply(small(NAME, train=TRAIN, evaluate=EVALUATE, promotion=promotion, serving=serving, **spec))


def wait_for_servers(team: Namespace) -> None:
    """Wait for the end of the round, and for the servers of its student."""
    rounds = team.get(RUN, NAME)["spec"]["rounds"]
    ended = "Waiting" if rounds["maxRounds"] > 1 else "Complete"
    team.wait_for("the end of the round", lambda: team.status(NAME).get("phase") == ended, run=NAME)
    team.wait_for("the servers", lambda: team.condition(NAME, "Serving").get("status") == "True", run=NAME)
    (round_,) = team.status(NAME)["rounds"]
    assert round_["promoted"], f"the student was expected to win: {round_['reason']}"


def students(team: Namespace) -> dict[int, str]:
    """The student of round 1 and the base model as the status calls them, by what ``serving.pinnedRound`` is."""
    (ended,) = team.status(NAME)["rounds"]
    return {1: ended["student"][:12], 0: "base"}


def models(team: Namespace) -> dict[int, str]:
    """The same as they are called in answers."""
    (ended,) = team.status(NAME)["rounds"]
    return {1: student_name(ended["student"]), 0: student_name("")}


def patch(team: Namespace, serving: Mapping[str, Any]) -> None:
    """Change ``spec.serving``."""
    document = json.dumps({"spec": {"serving": serving}})
    team.kubectl("patch", RUN, NAME, "--type=merge", f"--patch={document}")


def serve(team: Namespace, number: int, *, seconds: float = 300) -> float:
    """Have a round's student served; seconds until the operator says that all replicas serve it."""
    started = time.monotonic()
    patch(team, {"pinnedRound": number})
    wait_until_served(team, number, seconds=seconds)
    return time.monotonic() - started


def wait_until_served(team: Namespace, number: int, *, seconds: float = 300) -> None:
    """Until the operator says that all replicas serve a round's student."""
    student = students(team)[number]

    def served() -> bool:
        status = team.status(NAME)
        holds = {c["type"]: c["status"] for c in status["conditions"]}
        return status["serving"]["student"] == student and holds["Serving"] == "True"

    team.wait_for(f"{student} on all replicas", served, seconds=seconds)


def roll(team: Namespace, serving: Mapping[str, Any]) -> None:
    """Change ``spec.serving`` where that takes new pods, and wait for them."""
    generation = team.get("deployment", NAME)["metadata"]["generation"]
    patch(team, serving)
    team.wait_for("new pods", lambda: team.get("deployment", NAME)["metadata"]["generation"] > generation)
    team.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=1200s")


def pods(team: Namespace) -> dict[str, Any]:
    """The serving pods by name, but for those on their way out."""
    found = team.list("pods", f"distillery.dev/run={NAME},app.kubernetes.io/component=serving")
    return {pod["metadata"]["name"]: pod for pod in found if not pod["metadata"].get("deletionTimestamp")}


def is_ready(team: Namespace, name: str) -> bool:
    """Whether a Service sends requests to a pod."""
    conditions = team.get("pod", name).get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def restarts(pod: Mapping[str, Any]) -> dict[str, int]:
    """How often each container of a pod was started again."""
    statuses = (*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"])
    return {status["name"]: status["restartCount"] for status in statuses}


def kill(team: Namespace, pod: str, container: str) -> None:
    """End all processes of a container at once, on the node: no process can do that to the first of its container."""
    if team.cluster.context:
        pytest.skip("the processes of this cluster are not at hand")
    from hack.testbed.machine import processes

    status = team.get("pod", pod)["status"]
    found = (*status["initContainerStatuses"], *status["containerStatuses"])
    (identity,) = (s["containerID"].rpartition("/")[2] for s in found if s["name"] == container)
    victims = [process for process in processes.processes() if identity in process.cgroups]
    assert victims, f"no process of container {container} of {pod} ({identity}) is found on this machine"
    processes.kill(victims)


@contextmanager
def load(team: Namespace, right: set[str]) -> Generator[tuple[list[int], list[str]]]:
    """Streamed requests to every replica, at a steady rate; how many, and what was wrong with which."""
    answered, wrong, stop = list[int](), list[str](), threading.Event()

    def ask(address: str) -> None:
        client = openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=120)
        while not stop.wait(PAUSE):
            before = set(right)
            try:
                stream = client.chat.completions.create(
                    model=NAME, messages=MESSAGES, temperature=0, max_tokens=8, stream=True
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


@dataclass(frozen=True)
class Answer:
    """What came of a request of the clients in a pod.

    Attributes:
        to: the name of the address: a pod's, or :data:`SERVICE`.
        began: seconds since the epoch.
        ended: likewise.
        status: of HTTP; 0 where there was none.
        models: that the parts of the stream name.
        problem: what was wrong; empty for a whole answer.
    """

    to: str
    began: float
    ended: float
    status: int
    models: Sequence[str]
    problem: str


@contextmanager
def clients(team: Namespace, to: Iterable[str] = ()) -> Generator[Callable[[], list[Answer]]]:
    """Clients in a pod that ask the Service, and those pods past it; all answers until now."""
    there = pods(team)
    (gateway,) = next(iter(there.values()))["spec"]["containers"]
    addresses = {SERVICE: NAME} | {name: there[name]["status"]["podIP"] for name in to}
    urls = {name: f"http://{address}:8000/v1/chat/completions" for name, address in addresses.items()}
    body = {"model": NAME, "messages": MESSAGES, "temperature": 0, "max_tokens": 8, "stream": True}
    environment = {"ADDRESSES": json.dumps(urls), "BODY": json.dumps(body)}
    asking = workloads.python(
        _CLIENTS, Path(__file__).with_name("client.py").read_text(), image=gateway["image"],
        imagePullPolicy=gateway["imagePullPolicy"], env=[{"name": n, "value": v} for n, v in environment.items()],
    )  # fmt: skip

    def answers() -> list[Answer]:
        done = team.try_kubectl("logs", _CLIENTS)  # none before it runs
        return [Answer(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]

    def started() -> bool:
        answered = {answer.to for answer in answers() if not answer.problem}
        return answered >= urls.keys()

    team.kubectl("delete", "pod", _CLIENTS, "--ignore-not-found")  # of a test that failed
    team.apply(workloads.pod(_CLIENTS, asking))
    try:
        try:
            team.wait_for("an answer from everywhere", started, seconds=300)
        except AssertionError as error:
            raise AssertionError(f"{error}\nthe clients' last: {answers()[-5:]}") from None
        yield answers
    finally:
        team.kubectl("delete", "pod", _CLIENTS, "--ignore-not-found")


@dataclass(frozen=True)
class Phase:
    """From when on which models may answer."""

    began: float
    models: frozenset[str]


def wrongly_answered(answers: Iterable[Answer], phases: Sequence[Phase]) -> list[Answer]:
    """The whole answers of models that were not to be served at any time from their beginning to their end."""
    ends = [*(phase.began for phase in phases[1:]), float("inf")]

    def allowed(answer: Answer) -> set[str]:
        during = [p for p, end in zip(phases, ends, strict=True) if p.began <= answer.ended and answer.began < end]
        return set().union(*(phase.models for phase in during))

    return [a for a in answers if a.models and (len(a.models) > 1 or not set(a.models) <= allowed(a))]


def failed(answers: Iterable[Answer]) -> list[Answer]:
    """Those that are not whole."""
    return [answer for answer in answers if answer.problem]
