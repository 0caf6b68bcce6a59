"""``plain``, for models too small for prompts: the task, then a thought and a command a turn; no instructions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from distillery.agents.base import Head, Reply, Span
from distillery.environments.base import Environment, Task


class Plain:
    """One line a turn: a few words of thought, then a command, which starts at the environment's first verb."""

    name: ClassVar[str] = "plain"
    stop: ClassVar[tuple[str, ...]] = ("\n",)
    max_tokens: ClassVar[int] = 48
    examples: ClassVar[int] = 0

    def __init__(self, environment: Environment) -> None:
        verbs = sorted(environment.verbs, key=len, reverse=True)
        self._command = re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, verbs))})(?![^\s\[])" if verbs else ".")

    def head(self, task: Task, opening: str, *, hints: Sequence[str], examples: int) -> Head:
        """Return the opening, with the hints as one more line."""
        if examples:
            raise ValueError("spec.agent.fewShotExamples: the agent plain has no worked examples; leave it out")
        line = "\nHints: " + " ".join(f"{hint.rstrip('.')}." for hint in hints) if hints else ""
        spans = {"hints": Span(0, len(opening), len(opening) + len(line))} if line else {}
        return Head(({"role": "user", "content": opening + line},), spans)

    def parse(self, text: str) -> Reply:
        """Split a reply at its first verb: thought before it, command from it. Without verbs, all is command."""
        line = " ".join(next(iter(text.strip().splitlines()), "").split())
        found = self._command.search(line)
        if not found:
            return Reply(line, None, "Nothing happens.", valid=False)
        return Reply(line, line[found.start() :])
