"""One episode, from the initial observation to its end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

from distillery.agents import Agent, PromptPrefix, cut_at_stop
from distillery.database.episode_queue import Lease
from distillery.environments.pool import wire
from distillery.environments.pool.pool import EnvironmentPool
from distillery.episodes import Episode, Turn, build_history
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


@dataclass(frozen=True, slots=True)
class Player:
    """A player of leased episodes.

    Attributes:
        agent: the prompt format.
        examples: worked examples in the prompt.
        environments: where sessions are opened.
        client: of the model that replies.
    """

    agent: Agent
    examples: int
    environments: EnvironmentPool
    client: ChatClient

    async def play(self, lease: Lease, budget: Budget) -> Episode:
        """Play a leased episode to its end.

        Raises:
            EnvironmentFailure: the environment broke; the attempt counts for nothing.
            ServerUnavailable, RequestRefused: from the client.
        """
        agent = self.agent
        session, observation = await self.environments.open(lease.task)
        try:
            initial_observation = observation.text
            prefix = agent.build_prefix(lease.task, initial_observation, hints=lease.hints, examples=self.examples)
            turns: list[Turn] = []
            first_turn, steps, success, score, problem = 0, 0, False, 0.0, ""
            while True:
                first_turn = _find_first_turn(turns, first_turn, budget)
                try:
                    completion, first_turn = await self._complete(prefix, turns, first_turn, budget)
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
                reply = agent.parse(cut_at_stop(completion.text, agent.stop))
                feedback, valid, done = reply.feedback, reply.valid, False
                if reply.action is not None:
                    observation = await session.step(reply.action)
                    feedback, valid, done = observation.text, observation.valid, observation.done
                    success, score, steps = observation.success, observation.score, steps + 1
                turns.append(
                    Turn(
                        reply.text,
                        reply.action,
                        feedback,
                        valid,
                        first_turn,
                        completion.prompt_tokens,
                        completion.completion_tokens,
                        completion.cached_tokens,
                        completion.seconds,
                        _find_finish_reason(completion, reply.text),
                    )
                )
                stop = _find_stop_reason(turns, budget, steps=steps, done=done, success=success)
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
            initial_observation=initial_observation,
            prompt_prefix=prefix,
            examples=self.examples,
            hint_ids=lease.hint_ids,
            hints=lease.hints,
            turns=tuple(turns),
            error=wire.to_storable(problem),
        )

    async def _complete(
        self, prefix: PromptPrefix, turns: list[Turn], first_turn: int, budget: Budget
    ) -> tuple[Completion, int]:
        """Return the model's next reply, and the oldest turn that was in the prompt. Raises :class:`PromptTooLong`."""
        while True:
            try:
                completion = await self.client.complete(
                    build_history(prefix.messages, turns, first_turn),
                    temperature=budget.temperature,
                    max_tokens=budget.max_tokens,
                    stop=list(self.agent.stop),
                )
                return completion, first_turn
            except PromptTooLong:
                if first_turn >= len(turns) - 1:
                    raise
                first_turn += max(1, (len(turns) - first_turn) // 2)


def _find_finish_reason(completion: Completion, read: str) -> str:
    """Return why a reply ended. One of which the agent read only a part, up to its own stop, ended there."""
    whole, part = (" ".join(text.split()) for text in (completion.text, read))
    return completion.finish_reason if whole.endswith(part) else "stop"


@cache
def _log_empty_replies(agent: str) -> None:
    _log.warning(
        "a reply is empty: it began with a line break, where agent %s stops the model. A model that always begins so "
        "needs another agent (spec.agent.name)",
        agent,
    )


def _find_first_turn(turns: list[Turn], first_turn: int, budget: Budget) -> int:
    """Return the oldest turn to keep, before a prompt grows too long; the prefix is never dropped.

    Half of the context is freed at once, so that the prompts after it can grow again on a cached beginning.
    """
    if budget.context_length is None or not turns:
        return first_turn
    last = turns[-1]
    expected = last.prompt_tokens + last.completion_tokens + len(last.observation) // _CHARACTERS_PER_TOKEN + 16
    if expected + budget.max_tokens <= budget.context_length:
        return first_turn
    tokens_left = (budget.context_length - budget.max_tokens - turns[0].prompt_tokens) // 2
    kept = len(turns)
    while kept > first_turn + 1:
        turn = turns[kept - 1]
        tokens_left -= turn.completion_tokens + len(turn.observation) // _CHARACTERS_PER_TOKEN + 16
        if tokens_left < 0:
            break
        kept -= 1
    return min(kept, len(turns) - 1)


def _find_stop_reason(turns: list[Turn], budget: Budget, *, steps: int, done: bool, success: bool) -> str:
    """Return the stop reason of an episode; empty while it continues."""
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
