"""One episode, from the opening to its end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

from distillery.agents import Agent, Head, cut
from distillery.database.episodes import Lease
from distillery.environments.pool import wire
from distillery.environments.pool.pool import EnvironmentPool
from distillery.episodes import Episode, Turn, history
from distillery.llm.client import ChatClient, Completion, PromptRefused, PromptTooLong

_log = logging.getLogger(__name__)

# How many characters make a token, at least; used only to foresee that a prompt will not fit.
_CHARACTERS_PER_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of an episode, and the sampling of its replies.

    Attributes:
        max_steps: actions.
        max_turns: replies, thoughts included.
        max_repeated_replies: identical replies in a row.
        max_tokens: of one reply.
        temperature: of sampling.
        context_length: tokens that a prompt and its reply may have together; None if unknown.
    """

    max_steps: int
    max_turns: int
    max_repeated_replies: int
    max_tokens: int
    temperature: float
    context_length: int | None = None


async def play(
    lease: Lease, *, agent: Agent, examples: int, environments: EnvironmentPool, client: ChatClient, budget: Budget
) -> Episode:
    """Play a leased episode to its end.

    Raises:
        EnvironmentFailure: the environment broke; the attempt counts for nothing.
        ServerUnavailable, RequestRefused: from the client.
    """
    session, observation = await environments.open(lease.task)
    try:
        opening = observation.text
        head = agent.head(lease.task, opening, hints=lease.hints, examples=examples)
        turns: list[Turn] = []
        first_turn, steps, success, score, problem = 0, 0, False, 0.0, ""
        while True:
            first_turn = _first_turn_that_fits(turns, first_turn, budget)
            try:
                completion, first_turn = await _reply(client, head, turns, first_turn, agent, budget)
            except PromptTooLong as refusal:
                stop = "context"
                problem = "" if turns else f"the first prompt does not fit into the server's context: {refusal}"
                break
            except PromptRefused as refusal:
                stop, problem = "refused", str(refusal)
                _log.warning("episode of task %s ends: %s", lease.task.id, problem)
                break
            if "\n" in agent.stop and not completion.text and completion.finish_reason == "stop":
                _log_empty_replies(agent.name)
            reply = agent.parse(cut(completion.text, agent.stop))
            answer, valid, done = reply.answer, reply.valid, False
            if reply.action is not None:
                observation = await session.step(reply.action)
                answer, valid, done = observation.text, observation.valid, observation.done
                success, score, steps = observation.success, observation.score, steps + 1
            turns.append(
                Turn(
                    reply.text,
                    reply.action,
                    answer,
                    valid,
                    first_turn,
                    completion.prompt_tokens,
                    completion.completion_tokens,
                    completion.cached_tokens,
                    completion.seconds,
                    _finish_reason(completion, reply.text),
                )
            )
            stop = _reason_to_stop(turns, steps, done, success, budget)
            if stop:
                break
    finally:
        await session.close()
    return Episode(
        id=lease.episode_id,
        task=lease.task,
        arm=lease.arm,
        seed=lease.seed,
        success=success,
        score=score,
        stop=stop,
        opening=opening,
        head=head,
        examples=examples,
        hint_ids=lease.hint_ids,
        hints=lease.hints,
        turns=tuple(turns),
        error=wire.storable(problem),
    )


async def _reply(
    client: ChatClient, head: Head, turns: list[Turn], first_turn: int, agent: Agent, budget: Budget
) -> tuple[Completion, int]:
    """The model's next reply, and the oldest turn that was in the prompt. Raises :class:`PromptTooLong`."""
    while True:
        try:
            completion = await client.complete(
                history(head.messages, turns, first_turn),
                temperature=budget.temperature,
                max_tokens=budget.max_tokens,
                stop=list(agent.stop),
            )
            return completion, first_turn
        except PromptTooLong:
            if first_turn >= len(turns) - 1:
                raise
            first_turn += max(1, (len(turns) - first_turn) // 2)


def _finish_reason(completion: Completion, read: str) -> str:
    """Why a reply ended: one of which the agent read only a part, up to its own stop, ended there."""
    whole, part = (" ".join(text.split()) for text in (completion.text, read))
    return completion.finish_reason if whole.endswith(part) else "stop"


@cache
def _log_empty_replies(agent: str) -> None:
    _log.warning(
        "a reply is empty: it began with a line break, where agent %s stops the model. A model that always begins so "
        "needs another agent (spec.agent.name)",
        agent,
    )


def _first_turn_that_fits(turns: list[Turn], first_turn: int, budget: Budget) -> int:
    """Drop the oldest turns, never the head, before a prompt grows too long.

    Half of the room is freed at once, so that the prompts after it can grow again on a cached beginning.
    """
    if budget.context_length is None or not turns:
        return first_turn
    last = turns[-1]
    expected = last.prompt_tokens + last.completion_tokens + len(last.observation) // _CHARACTERS_PER_TOKEN + 16
    if expected + budget.max_tokens <= budget.context_length:
        return first_turn
    room = (budget.context_length - budget.max_tokens - turns[0].prompt_tokens) // 2
    kept = len(turns)
    while kept > first_turn + 1:
        turn = turns[kept - 1]
        room -= turn.completion_tokens + len(turn.observation) // _CHARACTERS_PER_TOKEN + 16
        if room < 0:
            break
        kept -= 1
    return min(kept, len(turns) - 1)


def _reason_to_stop(turns: list[Turn], steps: int, done: bool, success: bool, budget: Budget) -> str:
    if done:
        return "success" if success else "done"
    if steps >= budget.max_steps:
        return "steps"
    if len(turns) >= budget.max_turns:
        return "turns"
    recent = turns[-budget.max_repeated_replies :]
    if len(recent) == budget.max_repeated_replies and len({turn.reply for turn in recent}) == 1:
        return "repetition"
    return ""
