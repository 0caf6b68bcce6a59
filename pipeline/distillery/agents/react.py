"""ReAct (Yao et al., 2023): each turn is one line, a thought or a command. Thoughts are answered with "OK."."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from distillery.agents.base import PromptPrefix, Reply
from distillery.agents.chat import build_chat_prefix
from distillery.environments.base import Environment, Example, Task


class ReAct:
    """An agent of one line a turn: ``think: ...`` or a command."""

    name: ClassVar[str] = "react"
    stop: ClassVar[tuple[str, ...]] = ("\n",)
    max_tokens: ClassVar[int] = 100
    examples: ClassVar[int] = 2

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        turns = (
            "Each of your turns is one line: either a command, or a thought that begins with 'think:'. "
            "A thought is answered with 'OK.' and changes nothing; think when a new part of the task begins."
            if environment.thoughts
            else "Each of your turns is one line: a command."
        )
        self._instructions = f"{environment.instructions}\n\n{turns}"

    def build_prefix(
        self, task: Task, initial_observation: str, *, hints: Sequence[str], examples: int
    ) -> PromptPrefix:
        """Return one user message."""
        worked = [self._render_example(example) for example in self._environment.examples(task.category)[:examples]]
        return build_chat_prefix(self._instructions, initial_observation, examples=worked, hints=hints)

    def parse(self, text: str) -> Reply:
        """Return the first line, without the leading ``>`` that the examples have."""
        line = next(iter(text.strip().splitlines()), "").strip().removeprefix(">").strip()
        if not line:
            return Reply(line, None, "Nothing happens.", valid=False)
        if line.lower().startswith(("think:", "think[")):
            return Reply(line, None, "OK.")
        return Reply(line, line)

    def _render_example(self, example: Example) -> str:
        lines = [example.opening]
        for turn in example.turns:
            if turn.thought and self._environment.thoughts:
                lines += [f"> think: {turn.thought}", "OK."]
            lines += [f"> {turn.action}", turn.observation]
        return "\n".join(lines)
