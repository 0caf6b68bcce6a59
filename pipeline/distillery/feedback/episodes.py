"""The conversion of users' sessions to episodes: a session's messages, read by the agent that they were played with.

The texts of users and their environments are not trusted: they are bounded here, and hints made of them are normalized
as all hints are. A session that does not read as an episode of this agent is left out, with a reason.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distillery.agents import Agent, PromptPrefix, cut_at_stop
from distillery.agents.chat import find_initial_observation
from distillery.core.contracts.messages import Message
from distillery.core.planner.plays import PRODUCTION
from distillery.database.sessions import FailedSession
from distillery.environments.base import Environment, Task
from distillery.episodes import REPORTED, Episode, Turn

_MAX_TURNS = 200
_MAX_INITIAL_OBSERVATION = 8_000  # characters
_MAX_TEXT = 4_000  # of a reply, and of an observation
_MAX_GOAL = 300


@dataclass(frozen=True, slots=True)
class Unreadable(Exception):
    """A session that is no episode of this agent.

    Attributes:
        reason: in a word, to be counted by.
    """

    reason: str


def build_episode(session: FailedSession, agent: Agent, environment: Environment) -> Episode:
    """Return a failed session as an episode, without a category. Raises :class:`Unreadable`."""
    try:
        episode = _build(session, agent, environment)
        # the extractor reads the episodes of all rounds: one that the environment chokes on would fail each of them
        environment.read(
            episode.initial_observation, [(turn.action, turn.observation) for turn in episode.turns if turn.action]
        )
    except Unreadable:
        raise
    except Exception as error:  # a plug-in's, of a text that nobody wrote for it
        raise Unreadable("unreadable") from error
    return episode


def set_category(episode: Episode, category: str) -> Episode:
    """Return the episode with its task in a category."""
    return replace(episode, task=replace(episode.task, category=category))


def _build(session: FailedSession, agent: Agent, environment: Environment) -> Episode:
    """Return a failed session as an episode that the environment may not be able to read."""
    messages = [_read(message) for message in session.request.messages]
    first = next((i for i, (role, _) in enumerate(messages) if role == "assistant"), len(messages))
    prefix, played = messages[:first], messages[first:]
    if not prefix or prefix[-1][0] != "user" or any(role not in ("system", "user") for role, _ in prefix):
        raise Unreadable("noTask")
    played.append(("assistant", session.request.answer))
    turns = _build_turns(played, agent)
    if not any(turn.action for turn in turns):
        raise Unreadable("noActions")
    initial_observation = find_initial_observation(prefix[-1][1])[:_MAX_INITIAL_OBSERVATION]
    goal = textwrap.shorten(session.task or environment.goal(initial_observation), _MAX_GOAL, placeholder=" ...")
    return Episode(
        id=0,
        task=Task(f"{PRODUCTION}/{session.request.session}", PRODUCTION, "", goal.rstrip(".")),
        arm=PRODUCTION,
        seed=0,
        success=False,
        score=session.reward or 0.0,
        stop=REPORTED,
        initial_observation=initial_observation,
        prompt_prefix=PromptPrefix(tuple(_build_message(role, text) for role, text in prefix)),
        examples=0,
        hint_ids=(),
        hints=(),
        turns=turns,
    )


def _build_turns(played: Sequence[tuple[str, str]], agent: Agent) -> tuple[Turn, ...]:
    """Return the turns, the last ones if there are many.

    Each is an assistant's message and, for all but the last, a user's.
    """
    replies, observations = played[::2], [*played[1::2], ("user", "")]
    if len(replies) != len(observations) or any(role != "assistant" for role, _ in replies):
        raise Unreadable("noTurns")
    if any(role != "user" for role, _ in observations):
        raise Unreadable("noTurns")
    turns = []
    for (_, text), (_, observation) in list(zip(replies, observations, strict=True))[-_MAX_TURNS:]:
        reply = agent.parse(cut_at_stop(text, agent.stop)[:_MAX_TEXT])
        feedback = observation[:_MAX_TEXT]
        turns.append(Turn(reply.text, reply.action, feedback, reply.valid, 0, 0, 0, None, 0.0))
    return tuple(turns)


def _read(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return the role and the text of a recorded message."""
    role = str(message.get("role", ""))
    return "system" if role == "developer" else role, str(message.get("content", ""))


def _build_message(role: str, text: str) -> Message:
    """Return a bounded message of the prompt prefix."""
    return {"role": "system" if role == "system" else "user", "content": text[:_MAX_INITIAL_OBSERVATION]}
