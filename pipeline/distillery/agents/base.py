"""An agent: how a task becomes a prompt, and a reply becomes an action. One renderer for inference and training.

An agent is a pure format. It never sees a tokenizer: a prompt is a list of chat messages, and the model's own chat
template turns them into tokens, in the server as in the trainer. So what is trained is what was seen, and what an
OpenAI-compatible endpoint serves is what was trained.

The prompt only ever grows: the head (instructions, worked examples, the task, the hints), then one assistant message
and one user message per turn. Servers can reuse their cache for all but the newest turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, TypedDict

from distillery.environments.base import Environment, Task


class Message(TypedDict):
    """A chat message as the OpenAI API has it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` of the content of message ``message``."""

    message: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Head:
    """The messages before the first turn, with the places of what a student must not see.

    Attributes:
        messages: at least one; the last is the user's.
        spans: ``hints`` and ``examples``, where the prompt holds them.
    """

    messages: tuple[Message, ...]
    spans: Mapping[str, Span] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the model, as the agent understood it.

    Attributes:
        text: the reply as the history keeps it, without anything after its end.
        action: the command for the environment; None for a thought, or if the reply holds no command.
        answer: the feedback that the agent gets in place of an observation, if ``action`` is None.
        valid: False if the reply is not in the agent's format.
    """

    text: str
    action: str | None
    answer: str = ""
    valid: bool = True


class Agent(Protocol):
    """A prompt format. ``distillery.agents`` is its group of entry points."""

    name: ClassVar[str]
    stop: ClassVar[tuple[str, ...]]
    max_tokens: ClassVar[int]
    examples: ClassVar[int]
    """Worked examples that the format calls for by default."""

    def __init__(self, environment: Environment) -> None:
        """Build an agent for an environment, which supplies instructions, worked examples and verbs."""
        ...

    def head(self, task: Task, opening: str, *, hints: Sequence[str], examples: int) -> Head:
        """Return the first messages. Without hints and with 0 examples they are what a student sees."""
        ...

    def parse(self, text: str) -> Reply:
        """Parse a model's reply; ``text`` is cut at the stop string."""
        ...


HINT_RULES = (
    "Apply them silently.",
    "Never quote or paraphrase them.",
    "Where one conflicts with what you observe, trust the observation.",
)
"""The three rules of the hint block (arXiv 2510.01375, section 3.3), in our words."""


def hint_block(hints: Sequence[str]) -> str:
    """Return the fenced block that follows the task; empty without hints."""
    if not hints:
        return ""
    rules = "\n".join(f"{number}. {rule}" for number, rule in enumerate(HINT_RULES, 1))
    lines = "\n".join(f"- {hint}" for hint in hints)
    fence = "=" * 12
    return f"\n\n{fence}\nHints from earlier attempts at tasks like this one.\n{rules}\n{lines}\n{fence}"


def cut(text: str, stops: Sequence[str]) -> str:
    """Cut a reply at its stop string: servers differ in whether they send it along."""
    text = text.lstrip("\n")
    for stop in stops:
        text = text.split(stop, 1)[0]
    return text


def without(head: Head, *names: str) -> tuple[Message, ...]:
    """Return the head's messages with the named spans cut out, by position."""
    spans = sorted((span for name, span in head.spans.items() if name in names), key=lambda s: (s.message, s.start))
    messages = list(head.messages)
    for span in reversed(spans):
        message = messages[span.message]
        text = message["content"][: span.start] + message["content"][span.end :]
        messages[span.message] = {"role": message["role"], "content": text}
    return tuple(messages)
