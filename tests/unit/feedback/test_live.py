"""What users played is read as the agent reads its own episodes; what does not read so is left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from distillery.agents import Agent
from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.agents.stateact import StateAct
from distillery.database.sessions import Exchange, LiveSession
from distillery.environments.alfworld.environment import ALFWorld
from distillery.environments.webshop.environment import WebShop
from distillery.feedback.episodes import Unreadable, episode_of
from distillery.hints.categories import likest
from tests.fakes.agents import FakeEnvironment, task

OPENING = "You are in a room with a desk 1 and a shelf 1.\nYour task is to: put some mug in shelf."


def session(*contents: Any, answer: str = "take mug 1 from desk 1", task: str = "", system: str = "") -> LiveSession:
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    time = datetime(2026, 11, 26, tzinfo=UTC)
    return LiveSession(Exchange("s-1", "bot", "student-a", tuple(messages), answer, time), task, None)


def test_messages_become_turns_each_with_what_the_agent_was_told():
    environment = FakeEnvironment()
    read = episode_of(
        session(OPENING, "the desk first: go to desk 1\n", "On it is a mug 1."), Plain(environment), environment
    )
    assert [(t.reply, t.action, t.observation) for t in read.turns] == [
        ("the desk first: go to desk 1", "go to desk 1", "On it is a mug 1."),
        ("take mug 1 from desk 1", "take mug 1 from desk 1", ""),
    ]
    assert (read.arm, read.success, read.stop, read.opening) == ("live", False, "reported", OPENING)
    assert (read.task.id, read.task.goal) == ("live/s-1", "put some mug in shelf")


@pytest.mark.parametrize("agent", [ReAct(FakeEnvironment()), StateAct(FakeEnvironment())])
def test_the_opening_is_found_behind_instructions_and_examples(agent: Agent):
    head = agent.head(task(), OPENING, hints=(), examples=1)
    played = session(head.messages[0]["content"], answer="goal: g\naction: go to desk 1")
    assert episode_of(played, agent, FakeEnvironment()).opening == OPENING


def test_the_clients_words_for_the_task_come_first_on_one_line_and_bounded():
    environment = FakeEnvironment()
    read = episode_of(session(OPENING, task="put a mug\n away. " + "x " * 400), Plain(environment), environment)
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
def test_what_is_no_episode_of_the_agent_is_left_out_for_a_reason(played: LiveSession, reason: str):
    environment = FakeEnvironment()
    with pytest.raises(Unreadable) as caught:
        episode_of(played, Plain(environment), environment)
    assert caught.value.reason == reason


@pytest.mark.parametrize("method", ["goal", "read"])
def test_what_an_environment_chokes_on_is_left_out(method: str, monkeypatch: pytest.MonkeyPatch):
    def choke(*_: Any) -> Any:
        raise IndexError("nobody thought of such a text")

    environment = FakeEnvironment()
    monkeypatch.setattr(environment, method, choke)
    with pytest.raises(Unreadable) as caught:
        episode_of(session(OPENING), Plain(environment), environment)
    assert caught.value.reason == "unreadable"


def test_a_system_message_is_no_turn():
    environment = FakeEnvironment()
    read = episode_of(session(OPENING, system="Be good."), Plain(environment), environment)
    assert read.opening == OPENING
    assert [message["role"] for message in read.head.messages] == ["system", "user"]


def test_what_users_send_is_bounded():
    environment = FakeEnvironment()
    long = ["go to desk 1", "x" * 100_000] * 500
    read = episode_of(session("y" * 100_000 + OPENING, *long), Plain(environment), environment)
    assert len(read.turns) == 200
    assert max(len(turn.observation) for turn in read.turns) == 4000
    assert len(read.opening) == 8000


def test_a_goal_is_of_the_category_of_the_task_that_is_most_like_it():
    tasks = [task(1, category="put"), task(2, category="heat")]
    embeddings = {tasks[0].goal: "[1,0]", tasks[1].goal: "[0,1]", "warm a mug": "[0.2,0.9]", "store a mug": "[0.8,0]"}
    assert likest(["warm a mug", "store a mug"], tasks, embeddings) == ["heat", "put"]


def test_environments_find_the_goal_that_an_opening_states(tmp_path: Path):
    alfworld, webshop = ALFWorld({"games": "generated"}, tmp_path), WebShop({"catalog": "generated"}, tmp_path)
    assert alfworld.goal(OPENING) == "put some mug in shelf"
    assert webshop.goal("WebShop [SEP] Instruction: [SEP] i need a red mug, price below 20 [SEP] Search") == (
        "i need a red mug, price below 20"
    )
    assert alfworld.goal("Hello.") == webshop.goal("Hello.") == ""
