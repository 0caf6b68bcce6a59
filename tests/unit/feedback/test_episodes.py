"""Sessions of users are read as the agent reads its own episodes; the others are left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from distillery.agents import Agent
from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.agents.stateact import StateAct
from distillery.core.contracts.capture import CapturedRequest
from distillery.core.contracts.messages import read_text
from distillery.database.sessions import FailedSession
from distillery.feedback.episodes import Unreadable, build_episode
from distillery.hints.categories import nearest_categories
from distillery_alfworld.environment import ALFWorld
from distillery_webshop.environment import WebShop
from tests.fakes.agents import FakeEnvironment, task

OPENING = "You are in a room with a desk 1 and a shelf 1.\nYour task is to: put some mug in shelf."


def session(*contents: Any, answer: str = "take mug 1 from desk 1", task: str = "", system: str = "") -> FailedSession:
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    time = datetime(2026, 11, 26, tzinfo=UTC)
    return FailedSession(CapturedRequest("s-1", "bot", "student-a", tuple(messages), answer, time), task, None)


def test_messages_become_turns_with_their_feedback():
    environment = FakeEnvironment()
    read = build_episode(
        session(OPENING, "the desk first: go to desk 1\n", "On it is a mug 1."), Plain(environment), environment
    )
    assert [(t.reply, t.action, t.observation) for t in read.turns] == [
        ("the desk first: go to desk 1", "go to desk 1", "On it is a mug 1."),
        ("take mug 1 from desk 1", "take mug 1 from desk 1", ""),
    ]
    assert (read.arm, read.success, read.stop, read.initial_observation) == ("live", False, "reported", OPENING)
    assert (read.task.id, read.task.goal) == ("live/s-1", "put some mug in shelf")


@pytest.mark.parametrize("agent", [ReAct(FakeEnvironment()), StateAct(FakeEnvironment())])
def test_initial_observation_is_found_behind_the_instructions(agent: Agent):
    prefix = agent.build_prefix(task(), OPENING, hints=(), examples=1)
    played = session(read_text(prefix.messages[0]), answer="goal: g\naction: go to desk 1")
    assert build_episode(played, agent, FakeEnvironment()).initial_observation == OPENING


def test_goal_is_the_clients_task_in_one_bounded_line():
    environment = FakeEnvironment()
    read = build_episode(session(OPENING, task="put a mug\n away. " + "x " * 400), Plain(environment), environment)
    assert read.task.goal.startswith("put a mug away.")
    assert len(read.task.goal) <= 300


@pytest.mark.parametrize(
    ("played", "reason"),
    [
        (session(OPENING, answer="how nice!"), "noActions"),
        (session(answer="go to desk 1"), "noTask"),
        (session(OPENING, "go to desk 1"), "noTurns"),
    ],
)
def test_session_is_unreadable_when_it_is_no_episode_of_the_agent(played: FailedSession, reason: str):
    environment = FakeEnvironment()
    with pytest.raises(Unreadable) as caught:
        build_episode(played, Plain(environment), environment)
    assert caught.value.reason == reason


@pytest.mark.parametrize("method", ["goal", "read"])
def test_session_is_unreadable_when_the_environment_fails(method: str, monkeypatch: pytest.MonkeyPatch):
    def choke(*_: Any) -> Any:
        raise IndexError("nobody thought of such a text")

    environment = FakeEnvironment()
    monkeypatch.setattr(environment, method, choke)
    with pytest.raises(Unreadable) as caught:
        build_episode(session(OPENING), Plain(environment), environment)
    assert caught.value.reason == "unreadable"


def test_system_message_belongs_to_the_prompt_prefix():
    environment = FakeEnvironment()
    read = build_episode(session(OPENING, system="Be good."), Plain(environment), environment)
    assert read.initial_observation == OPENING
    assert [message["role"] for message in read.prompt_prefix.messages] == ["system", "user"]


def test_texts_of_a_session_are_bounded():
    environment = FakeEnvironment()
    long = ["go to desk 1", "x" * 100_000] * 500
    read = build_episode(session("y" * 100_000 + OPENING, *long), Plain(environment), environment)
    assert len(read.turns) == 200
    assert max(len(turn.observation) for turn in read.turns) == 4000
    assert len(read.initial_observation) == 8000


def test_goal_gets_the_category_of_the_nearest_task():
    tasks = [task(1, category="put"), task(2, category="heat")]
    embeddings = {tasks[0].goal: "[1,0]", tasks[1].goal: "[0,1]", "warm a mug": "[0.2,0.9]", "store a mug": "[0.8,0]"}
    assert nearest_categories(["warm a mug", "store a mug"], tasks, embeddings) == ["heat", "put"]


def test_environments_find_the_goal_that_an_opening_states(tmp_path: Path):
    alfworld, webshop = ALFWorld({"games": "generated"}, tmp_path), WebShop({"catalog": "generated"}, tmp_path)
    assert alfworld.goal(OPENING) == "put some mug in shelf"
    assert webshop.goal("WebShop [SEP] Instruction: [SEP] i need a red mug, price below 20 [SEP] Search") == (
        "i need a red mug, price below 20"
    )
    assert alfworld.goal("Hello.") == webshop.goal("Hello.") == ""
