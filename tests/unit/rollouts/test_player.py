"""One episode: what is sent, how it ends, what is dropped when it grows too long."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from distillery.agents import Agent
from distillery.agents.plain import Plain
from distillery.agents.react import ReAct
from distillery.database.episode_queue import Lease
from distillery.environments.base import Observation, Task
from distillery.episodes import Episode
from distillery.llm.client import ChatClient, RequestSettings
from distillery.rollouts import player as play_module
from distillery.rollouts.player import Budget, Player
from tests.fakes.agents import FakeEnvironment, task
from tests.fakes.chat_server import FakeServer, completion, refusal

BUDGET = Budget(max_steps=5, max_turns=8, max_repeated_replies=3, max_tokens=20, temperature=0.0)
LEASE = Lease(1, 1, task(), "teacher", 0, (4,), ("look on the desk",))


class FakeSession:
    def __init__(self, step: Callable[[str], Observation]) -> None:
        self._step = step
        self.actions: list[str] = []
        self.closed = False

    async def step(self, action: str) -> Observation:
        self.actions.append(action)
        return self._step(action)

    async def close(self) -> None:
        self.closed = True


class FakePool:
    def __init__(self, step: Callable[[str], Observation]) -> None:
        self.session = FakeSession(step)

    async def open(self, task: Task) -> tuple[FakeSession, Observation]:
        return self.session, Observation("You see a desk 1.\nYour task is to: put mug 1 in shelf.")


def nothing(action: str) -> Observation:
    return Observation(f"You did {action}.")


async def played(
    replies: Callable[[dict[str, Any]], web.Response],
    *,
    step: Callable[[str], Observation] = nothing,
    budget: Budget = BUDGET,
    agent: Agent | None = None,
) -> tuple[Episode, FakeServer, FakeSession]:
    async def answer(body: dict[str, Any]) -> web.Response:
        return replies(body)

    pool: Any = FakePool(step)
    agent = agent or ReAct(FakeEnvironment())
    async with FakeServer(answer) as server, ChatClient(server.base_url, "m", RequestSettings(timeout=5)) as client:
        episode = await Player(agent, 0, pool, client).play(LEASE, budget)
    return episode, server, pool.session


def in_turn(*texts: str) -> Callable[[dict[str, Any]], web.Response]:
    queue = list(texts)
    return lambda body: completion(queue.pop(0) if len(queue) > 1 else queue[0])


async def test_episode_ends_when_the_task_is_solved():
    def step(action: str) -> Observation:
        won = action == "take mug 1"
        return Observation("Done." if won else "Nothing.", score=float(won), done=won, success=won)

    episode, _, session = await played(in_turn("go to desk 1", "take mug 1"), step=step)
    assert (episode.success, episode.score, episode.stop) == (True, 1.0, "success")
    assert session.actions == ["go to desk 1", "take mug 1"]
    assert session.closed


async def test_thought_counts_as_a_turn_and_not_as_a_step():
    episode, _, session = await played(in_turn(*("think: hm", "look") * 4))
    assert len(episode.turns) == BUDGET.max_turns
    assert episode.stop == "turns"
    assert len(session.actions) < BUDGET.max_steps
    assert episode.turns[0].observation == "OK."


async def test_episode_ends_when_max_steps_are_taken():
    numbers = iter(range(100))
    episode, _, session = await played(lambda body: completion(f"go to desk {next(numbers)}"))
    assert (episode.stop, len(session.actions)) == ("steps", BUDGET.max_steps)


async def test_episode_ends_when_the_agent_repeats_itself():
    episode, _, _ = await played(in_turn("look"))
    assert (episode.stop, len(episode.turns)) == ("repetition", 3)


async def test_episode_ends_without_success_when_the_environment_ends_it():
    episode, _, _ = await played(in_turn("look"), step=lambda a: Observation("Bought.", score=0.4, done=True))
    assert (episode.success, episode.score, episode.stop) == (False, 0.4, "done")


async def test_prompt_extends_the_one_before_and_has_hints_once():
    _, server, _ = await played(in_turn("go to desk 1", "go to desk 2", "go to desk 3", "go to desk 4", "look"))
    prompts = [request["messages"] for request in server.requests]
    for shorter, longer in pairwise(prompts):
        assert longer[: len(shorter)] == shorter
        assert str(longer).count("look on the desk") == 1


async def test_reply_is_cut_at_the_stop_string():
    episode, _, session = await played(in_turn("go to desk 1\nYou arrive. I win.\ngo to desk 2"))
    assert session.actions[0] == "go to desk 1"
    assert episode.turns[0].reply == "go to desk 1"


async def test_refused_actions_are_counted():
    episode, _, _ = await played(in_turn("fly"), step=lambda a: Observation("Nothing happens.", valid=False))
    assert episode.invalid_actions == len(episode.turns)


def tokens(body: dict[str, Any]) -> int:
    """Three characters a token, as good as any."""
    return sum(len(message["content"]) for message in body["messages"]) // 3


async def test_oldest_turns_are_dropped_before_a_prompt_is_too_long():
    def reply(body: dict[str, Any]) -> web.Response:
        text = f"go to the desk that has number {hash(str(body)) % 100_000}"
        return completion(text, prompt_tokens=tokens(body), completion_tokens=len(text) // 3)

    budget = Budget(20, 20, 3, max_tokens=20, temperature=0.0, context_length=400)
    episode, server, _ = await played(reply, budget=budget)
    assert len(episode.turns) == 20
    sizes = [tokens(request) for request in server.requests]
    assert 300 < max(sizes) + budget.max_tokens <= 400
    firsts = [turn.first_turn for turn in episode.turns]
    assert firsts == sorted(firsts)
    assert 0 < firsts[-1] < 20
    assert len(set(firsts)) < 10, "room is freed in large pieces, so that prompts can grow on a cached beginning"
    prefix = server.requests[0]["messages"][0]
    assert all(request["messages"][0] == prefix for request in server.requests), "the prefix is never dropped"


async def test_prompt_is_shortened_when_the_server_refuses_it():
    def reply(body: dict[str, Any]) -> web.Response:
        if len(body["messages"]) > 7:
            return web.json_response({"error": {"message": "maximum context length is 100"}}, status=400)
        return completion(f"go to desk {hash(str(body)) % 1000}")

    episode, server, _ = await played(reply, budget=Budget(10, 10, 3, 20, 0.0))
    assert len(episode.turns) == 10
    assert any(turn.first_turn > 0 for turn in episode.turns)
    for turn, request in zip(episode.turns, [r for r in server.requests if len(r["messages"]) <= 7], strict=True):
        number = episode.turns.index(turn)
        assert len(request["messages"]) == 1 + 2 * (number - turn.first_turn)


@pytest.mark.parametrize(("status", "message"), [(400, "maximum context length is 10"), (413, "payload too large")])
async def test_episode_fails_when_the_first_prompt_does_not_fit(status: int, message: str):
    episode, _, session = await played(lambda body: refusal(status, message))
    assert (episode.success, episode.stop, episode.turns) == (False, "context", ())
    assert message in episode.error
    assert session.closed


@pytest.mark.parametrize(
    ("text", "reason", "kept"),
    [
        ("go to de", "length", "length"),
        ("go  to de", "length", "length"),
        ("", "length", "length"),
        ("go to desk 1", "stop", "stop"),
        ("go to desk 1\nYou arrive and", "length", "stop"),
        ("go to desk 1", None, ""),
        ("go to", "content_filter", "content_filter"),
    ],
)
async def test_turn_keeps_why_its_reply_ended(text: str, reason: str | None, kept: str):
    agent = Plain(FakeEnvironment())
    episode, _, _ = await played(lambda body: completion(text, finish_reason=reason), agent=agent)
    assert episode.turns[0].finish_reason == kept
    assert episode.turns[0].cut == (kept in ("length", "content_filter"))


async def test_replies_that_begin_with_a_line_break_are_logged_once(caplog: pytest.LogCaptureFixture):
    play_module._log_empty_replies.cache_clear()
    episode, _, _ = await played(lambda body: completion("", finish_reason="stop"))
    assert episode.stop == "repetition"
    assert [r.message for r in caplog.records if "began with a line break" in r.message] != []
    assert len(caplog.records) == 1


async def test_episode_ends_as_refused_when_a_prompt_is_refused():
    def reply(body: dict[str, Any]) -> web.Response:
        if len(body["messages"]) == 1:
            return completion("go to desk 1")
        return refusal(400, "flag\0ged", code="content_filter")

    episode, _, session = await played(reply)
    assert (episode.success, episode.stop, len(episode.turns)) == (False, "refused", 1)
    assert "answered 400" in episode.error
    assert "\0" not in episode.error
    assert session.closed


async def test_reply_is_kept_without_characters_that_a_database_refuses():
    episode, _, session = await played(in_turn("lo\0ok"))
    assert (episode.turns[0].reply, session.actions[0]) == ("look", "look")


@pytest.mark.parametrize("hints", [(), ("look on the desk",)])
async def test_episode_has_the_prompt_prefix_that_was_sent(hints: tuple[str, ...]):
    episode, server, _ = await played(in_turn("look"))
    assert list(episode.prompt_prefix.messages) == server.requests[0]["messages"]
