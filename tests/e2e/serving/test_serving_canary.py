"""A canary on live traffic: its share grows step by step, and one that does worse is rolled back."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from tests.e2e.support import serving
from tests.e2e.support.cluster import Namespace
from tests.e2e.support.serving import MESSAGES, NAME, PAUSE, pods, restarts, serve

pytestmark = pytest.mark.full

STEPS = [{"shadow": True, "minDurationSeconds": 10}, {"weight": 50, "minDurationSeconds": 10}]
# as little as can be shown: twenty sessions of either side
ANALYSIS = {
    "minRequests": 20,
    "maxErrorRateIncrease": 0.2,
    "maxSlowRateIncrease": 0.4,
    "minSessions": 20,
    "maxSuccessRateDrop": 0.4,
}
SESSIONS = 24


@dataclass
class Traffic:
    """What sessions came to.

    Attributes:
        models: that answered each of them, one request at each pod.
        wrong: what went wrong.
    """

    models: dict[str, set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def since(self, number: int) -> set[str]:
        """The models of all sessions but the first so many."""
        return set().union(*itertools.islice(self.models.values(), number, None))


@pytest.fixture
def gateways(adapters: Namespace) -> Generator[list[openai.OpenAI]]:
    """A client of each pod."""
    with ExitStack() as stack:
        addresses = [stack.enter_context(adapters.forward(f"pod/{name}", 8000)) for name in pods(adapters)]
        yield [
            openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0, timeout=120)
            for address in addresses
        ]


@pytest.fixture(autouse=True)
def alone(adapters: Namespace) -> Generator[None]:
    """The base model is served before a test, and the student after it, without canaries."""
    serve(adapters, 0)
    yield
    serving.patch(adapters, {"pinnedRound": 1, "canary": None})
    serving.wait_until_served(adapters, 1)


def ask(client: openai.OpenAI, session: str) -> str:
    """The model that answers a session."""
    headers = {"X-Session-ID": session}
    answer = client.chat.completions.create(
        model=NAME, messages=MESSAGES, temperature=0, max_tokens=8, extra_headers=headers
    )
    return answer.model


@contextmanager
def traffic(gateways: list[openai.OpenAI], succeeds: Callable[[str], bool]) -> Generator[Traffic]:
    """Sessions, one after the other, whose clients tell how they ended: ``succeeds`` says so of a model."""
    found, stop = Traffic(), threading.Event()

    def play() -> None:
        for number in itertools.count():
            if stop.wait(PAUSE):
                return
            session, teller = f"session-{number}", gateways[number % len(gateways)]
            try:
                models = found.models[session] = {ask(client, session) for client in gateways}
                outcome: dict[str, Any] = {"model": NAME, "session": session, "success": succeeds(max(models))}
                teller.post("/outcomes", body=outcome, cast_to=object)
            except openai.OpenAIError as error:
                found.wrong.append(repr(error))

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def trial(team: Namespace) -> dict[str, Any]:
    """Return the status of the canary."""
    return team.status(NAME)["serving"].get("canary", {})


def progress(team: Namespace) -> tuple[str, str]:
    """The condition of the canary: status and reason."""
    condition = team.condition(NAME, "CanaryProgressing")
    return condition.get("status", ""), condition.get("reason", "")


def begin(team: Namespace, steps: list[dict[str, Any]]) -> None:
    """Let the promoted student be a canary."""
    serving.patch(team, {"pinnedRound": None, "canary": {"steps": steps, "analysis": ANALYSIS, "paused": False}})


def test_canary_is_promoted_without_a_failed_request_when_it_is_no_worse(
    adapters: Namespace, gateways: list[openai.OpenAI]
):
    base, student = (serving.models(adapters)[number] for number in (0, 1))
    before = pods(adapters)
    with traffic(gateways, lambda _: True) as found:
        begin(adapters, STEPS)
        adapters.wait_for("the second step", lambda: trial(adapters).get("step") == 2, seconds=600)
        shadowed = dict(found.models)
        serving.patch(adapters, {"canary": {"paused": True}})
        adapters.wait_for("the pause", lambda: progress(adapters) == ("True", "Paused"), seconds=60)
        adapters.wait_for("the step on all pods", lambda: trial(adapters)["phase"] == "Running", seconds=60)
        placed = {
            f"kept-{number}": {ask(client, f"kept-{number}") for client in gateways} for number in range(SESSIONS)
        }
        assert trial(adapters)["step"] == 2
        serving.patch(adapters, {"canary": {"paused": False}})
        serving.wait_until_served(adapters, 1, seconds=600)
        all_of_them = len(found.models) + 1
        adapters.wait_for("sessions after it", lambda: len(found.models) > all_of_them + 2, seconds=60)
    assert found.wrong == []
    assert len(shadowed) >= ANALYSIS["minRequests"] / 2
    assert set().union(*list(shadowed.values())[:-1]) == {base}  # nobody sees what a shadow answers
    assert {len(models) for models in placed.values()} == {1}  # a session stays where it is, whatever pod it meets
    assert set().union(*placed.values()) == {base, student}
    assert found.since(all_of_them) == {student}
    assert progress(adapters) == ("False", "Promoted")
    assert "Successful in every step on live traffic (2)" in adapters.status(NAME)["serving"]["history"][0]["reason"]
    assert {n: restarts(p) for n, p in pods(adapters).items()} == {n: restarts(p) for n, p in before.items()}


def test_canary_is_rolled_back_for_good_when_it_does_worse(adapters: Namespace, gateways: list[openai.OpenAI]):
    base, student = (serving.models(adapters)[number] for number in (0, 1))
    with traffic(gateways, lambda model: model == base) as found:
        begin(adapters, [{"weight": 50, "minDurationSeconds": 600}])  # harm is not waited for
        adapters.wait_for("the rollback", lambda: progress(adapters) == ("False", "RolledBack"), seconds=600)
        serving.wait_until_served(adapters, 0)
        until_then = len(found.models) + 1
        adapters.wait_for("sessions after it", lambda: len(found.models) > until_then + SESSIONS, seconds=120)
    assert found.wrong == []
    assert found.since(0) == {base, student}
    assert found.since(until_then) == {base}
    refused = trial(adapters)
    assert refused["phase"] == "Failed"
    assert refused["message"].startswith("Successes ")  # the metric that failed
    assert refused["canary"]["successes"] == 0
    history = adapters.status(NAME)["serving"]["history"]
    assert (history[0]["student"], "rolled back" in history[0]["reason"]) == ("base", True)
