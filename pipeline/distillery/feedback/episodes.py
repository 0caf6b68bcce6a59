"""The conversion of users' sessions to episodes: a session's messages, read by the agent that they were played with.

The texts of users and their environments are not trusted: they are bounded here, and hints made of them are normalized
as all hints are. A session that does not read as an episode of this agent is left out, with a reason.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distillery.agents import Agent, Head, Message, cut
from distillery.agents.chat import opening_of
from distillery.core.planner.graph import LIVE
from distillery.database.sessions import LiveSession
from distillery.environments.base import Environment, Task
from distillery.episodes import REPORTED, Episode, Turn

_MAX_TURNS = 200
_MAX_OPENING = 8_000  # characters
_MAX_TEXT = 4_000  # of a reply, and of an observation
_MAX_GOAL = 300


@dataclass(frozen=True, slots=True)
class Unreadable(Exception):
    """The session is no episode of this agent.

    Attributes:
        reason: in a word, to be counted by.
    """

    reason: str


def episode_of(session: LiveSession, agent: Agent, environment: Environment) -> Episode:
    """Return a failed session as an episode, without a category. Raises :class:`Unreadable`."""
    try:
        episode = _episode(session, agent, environment)
        # the miner reads the episodes of all rounds: one that the environment chokes on would fail each of them
        environment.read(episode.opening, [(turn.action, turn.observation) for turn in episode.turns if turn.action])
    except Unreadable:
        raise
    except Exception as error:  # a plug-in's, of a text that nobody wrote for it
        raise Unreadable("unreadable") from error
    return episode


def of_category(episode: Episode, category: str) -> Episode:
    """Return the episode with its task in a category."""
    return replace(episode, task=replace(episode.task, category=category))


def _episode(session: LiveSession, agent: Agent, environment: Environment) -> Episode:
    messages = [_text(message) for message in session.exchange.messages]
    first = next((i for i, (role, _) in enumerate(messages) if role == "assistant"), len(messages))
    head, played = messages[:first], messages[first:]
    if not head or head[-1][0] != "user" or any(role not in ("system", "user") for role, _ in head):
        raise Unreadable("noTask")
    played.append(("assistant", session.exchange.answer))
    turns = _turns(played, agent)
    if not any(turn.action for turn in turns):
        raise Unreadable("noActions")
    opening = opening_of(head[-1][1])[:_MAX_OPENING]
    goal = textwrap.shorten(session.task or environment.goal(opening), _MAX_GOAL, placeholder=" ...")
    named = session.exchange.session
    return Episode(
        id=0,
        task=Task(f"{LIVE}/{named}", LIVE, "", goal.rstrip(".")),
        arm=LIVE,
        seed=0,
        success=False,
        score=session.reward or 0.0,
        stop=REPORTED,
        opening=opening,
        head=Head(tuple(_message(role, text[:_MAX_OPENING]) for role, text in head)),
        examples=0,
        hint_ids=(),
        hints=(),
        turns=turns,
    )


def _turns(played: Sequence[tuple[str, str]], agent: Agent) -> tuple[Turn, ...]:
    """The turns: each an assistant's message and, for all but the last, a user's. The last ones, if there are many."""
    replies, observations = played[::2], [*played[1::2], ("user", "")]
    if len(replies) != len(observations) or any(role != "assistant" for role, _ in replies):
        raise Unreadable("noTurns")
    if any(role != "user" for role, _ in observations):
        raise Unreadable("noTurns")
    turns = []
    for (_, text), (_, observation) in list(zip(replies, observations, strict=True))[-_MAX_TURNS:]:
        reply = agent.parse(cut(text, agent.stop)[:_MAX_TEXT])
        told = observation[:_MAX_TEXT]
        turns.append(Turn(reply.text, reply.action, told, reply.valid, 0, 0, 0, None, 0.0))
    return tuple(turns)


def _text(message: Mapping[str, Any]) -> tuple[str, str]:
    role = str(message.get("role", ""))
    return "system" if role == "developer" else role, str(message.get("content", ""))


def _message(role: str, text: str) -> Message:
    return {"role": "system" if role == "system" else "user", "content": text}
