"""StateAct (Rozanov & Rei, 2024): each turn restates the goal and the state before it thinks and acts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from distillery.agents.base import PromptPrefix, Reply
from distillery.agents.chat import build_chat_prefix
from distillery.environments.base import Environment, Example, ExampleTurn, Task


class StateAct:
    """An agent of a block of ``key: value`` lines a turn, the last one ``action:``; an empty line ends the block."""

    name: ClassVar[str] = "stateact"
    stop: ClassVar[tuple[str, ...]] = ("\n\n",)
    max_tokens: ClassVar[int] = 300
    examples: ClassVar[int] = 2

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        keys = [*environment.state_keys, *(["thought"] if environment.thoughts else []), "action"]
        self._instructions = (
            f"{environment.instructions}\n\n"
            f"Each of your turns is a block of lines 'key: value' with these keys, in this order: {', '.join(keys)}. "
            "Write None where there is nothing to say. The value of 'action' is the command."
        )

    def build_prefix(
        self, task: Task, initial_observation: str, *, hints: Sequence[str], examples: int
    ) -> PromptPrefix:
        """Return one user message."""
        worked = [self._render_example(example) for example in self._environment.examples(task.category)[:examples]]
        return build_chat_prefix(self._instructions, initial_observation, examples=worked, hints=hints)

    def parse(self, text: str) -> Reply:
        """Return the command after the last ``action:``; keys are read in any case."""
        block = text.strip().split("\n\n")[0].strip().removeprefix(">").strip()
        before, key, after = block.rpartition("action:") if "action:" in block else block.rpartition("Action:")
        action = next(iter(after.strip().splitlines()), "").strip() if key else ""
        if not action or action == "None":
            return Reply(block, None, "No action found. End with a line 'action: <command>'.", valid=False)
        return Reply(f"{before}{key} {action}", action)

    def _render_example(self, example: Example) -> str:
        blocks = [example.opening]
        for turn in example.turns:
            blocks += ["> " + self._render_block(turn), turn.observation]
        return "\n\n".join(blocks)

    def _render_block(self, turn: ExampleTurn) -> str:
        lines = [f"{key}: {turn.state.get(key) or 'None'}" for key in self._environment.state_keys]
        if self._environment.thoughts:
            lines.append(f"thought: {turn.thought or 'None'}")
        return "\n".join([*lines, f"action: {turn.action}"])
