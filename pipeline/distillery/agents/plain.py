"""``plain``, for models too small for prompts: the task, then a thought and a command a turn; no instructions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from distillery.agents.base import PromptPrefix, Reply, Span
from distillery.environments.base import Environment, Task


class Plain:
    """An agent of one line a turn: a few words of thought, then a command, which starts at the first verb."""

    name: ClassVar[str] = "plain"
    stop: ClassVar[tuple[str, ...]] = ("\n",)
    max_tokens: ClassVar[int] = 48
    examples: ClassVar[int] = 0

    def __init__(self, environment: Environment) -> None:
        verbs = sorted(environment.verbs, key=len, reverse=True)
        self._command = re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, verbs))})(?![^\s\[])" if verbs else ".")

    def build_prefix(
        self, task: Task, initial_observation: str, *, hints: Sequence[str], examples: int
    ) -> PromptPrefix:
        """Return the initial_observation, with the hints as one more line."""
        if examples:
            raise ValueError("spec.agent.fewShotExamples: the agent plain has no worked examples; leave it out")
        line = "\nHints: " + " ".join(f"{hint.rstrip('.')}." for hint in hints) if hints else ""
        spans = {"hints": Span(0, len(initial_observation), len(initial_observation) + len(line))} if line else {}
        return PromptPrefix(({"role": "user", "content": initial_observation + line},), spans)

    def parse(self, text: str) -> Reply:
        """Split a reply at its first verb: thought before it, command from it. Without verbs, all is command."""
        line = " ".join(next(iter(text.strip().splitlines()), "").split())
        match = self._command.search(line)
        if not match:
            return Reply(line, None, "Nothing happens.", valid=False)
        return Reply(line, line[match.start() :])
