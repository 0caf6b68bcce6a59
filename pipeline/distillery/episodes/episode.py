"""An episode as it is played and kept."""

from __future__ import annotations

from dataclasses import dataclass

from distillery.agents.base import PromptPrefix
from distillery.core.contracts.messages import Message
from distillery.environments.base import Task

CUT = ("length", "content_filter")
"""Values of OpenAI's ``finish_reason`` for a reply that does not end where the model would have ended it."""


REPORTED = "reported"
"""The stop reason of a session whose client reported its outcome."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply of the model and its effect.

    Attributes:
        reply: the reply as the history keeps it.
        action: the command that was carried out; None for a thought.
        observation: the text that the agent got back.
        valid: False if the environment refused the action, or the reply held none.
        first_turn: index of the oldest turn that was still in the prompt; above 0 only in over-long episodes.
        prompt_tokens: the server's count.
        completion_tokens: the server's count.
        cached_tokens: how many of the prompt's tokens the server had cached; None if it does not report them.
        seconds: how long the model took.
        finish_reason: why the reply ended: the server's word, or ``stop`` if the agent read only a part of the reply.
    """

    reply: str
    action: str | None
    observation: str
    valid: bool
    first_turn: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None
    seconds: float
    finish_reason: str = ""

    @property
    def cut(self) -> bool:
        """True if the server cut the reply, which stays in the history and is never learned."""
        return self.finish_reason in CUT


@dataclass(frozen=True, slots=True)
class Episode:
    """A played task: what was sent, what was answered, how it ended."""

    id: int
    task: Task
    arm: str
    seed: int
    success: bool
    score: float
    stop: str
    initial_observation: str
    prompt_prefix: PromptPrefix
    examples: int
    hint_ids: tuple[int, ...]
    hints: tuple[str, ...]
    turns: tuple[Turn, ...]
    error: str = ""
    """Why it broke off or was refused, where it was."""

    @property
    def invalid_actions(self) -> int:
        """Replies that the environment refused or that held no action."""
        return sum(not turn.valid for turn in self.turns)


def build_history(
    prefix: tuple[Message, ...], turns: list[Turn] | tuple[Turn, ...], first_turn: int = 0
) -> list[Message]:
    """Return the messages of a prompt: the prefix, then the turns from ``first_turn`` on.

    The one place where turns become messages, for inference and for training.
    """
    messages = list(prefix)
    for turn in turns[first_turn:]:
        messages.append({"role": "assistant", "content": turn.reply})
        messages.append({"role": "user", "content": turn.observation})
    return messages
