"""An agent: a format that renders a task as a prompt and reads a reply as an action, for inference and training.

An agent is a pure format. It never sees a tokenizer: a prompt is a list of chat messages, and the model's own chat
template turns them into tokens, in the server as in the trainer. So what is trained is what was seen, and what an
OpenAI-compatible endpoint serves is what was trained.

The prompt only ever grows: the prefix (instructions, worked examples, the task, the hints), then one assistant message
and one user message per turn. Servers can reuse their cache for all but the newest turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from distillery.core.contracts.messages import Message
from distillery.environments.base import Environment, Task


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` of the content of message ``message``."""

    message: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PromptPrefix:
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
        feedback: the text that the agent gets in place of an observation, if ``action`` is None.
        valid: False if the reply is not in the agent's format.
    """

    text: str
    action: str | None
    feedback: str = ""
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

    def build_prefix(
        self, task: Task, initial_observation: str, *, hints: Sequence[str], examples: int
    ) -> PromptPrefix:
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


def format_hint_block(hints: Sequence[str]) -> str:
    """Return the fenced block that follows the task; empty without hints."""
    if not hints:
        return ""
    rules = "\n".join(f"{number}. {rule}" for number, rule in enumerate(HINT_RULES, 1))
    lines = "\n".join(f"- {hint}" for hint in hints)
    fence = "=" * 12
    return f"\n\n{fence}\nHints from earlier attempts at tasks like this one.\n{rules}\n{lines}\n{fence}"


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """Cut a reply at its stop string: servers differ in whether they send it along."""
    text = text.lstrip("\n")
    for stop in stops:
        text = text.split(stop, 1)[0]
    return text


def remove_spans(prefix: PromptPrefix, *names: str) -> tuple[Message, ...]:
    """Return the prefix's messages with the named spans cut out, by position."""
    spans = sorted((span for name, span in prefix.spans.items() if name in names), key=lambda s: (s.message, s.start))
    messages = list(prefix.messages)
    for span in reversed(spans):
        message = messages[span.message]
        content = message["content"]
        if not isinstance(content, str):
            raise TypeError(f"message {span.message} is not of text alone: a span can't be cut out of its parts")
        messages[span.message] = {**message, "content": content[: span.start] + content[span.end :]}
    return tuple(messages)
