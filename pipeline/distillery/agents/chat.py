"""The parts that agents for chat models share: one user message with instructions, examples, the task and the hints."""

from __future__ import annotations

from collections.abc import Sequence

from distillery.agents.base import PromptPrefix, Span, format_hint_block

_TASK = "\n\nHere is the task.\n\n"


def find_initial_observation(content: str) -> str:
    """Return the initial observation in the user's first message: all of it if the agent sends nothing else."""
    return content.rpartition(_TASK)[2]


def build_chat_prefix(
    instructions: str, initial_observation: str, *, examples: Sequence[str], hints: Sequence[str]
) -> PromptPrefix:
    """Return one user message: first what many tasks share, then the task, then the hints.

    Everything stands in one user message because some chat templates know no system role.

    Args:
        instructions: the same for all tasks.
        initial_observation: of the environment, which states the task.
        examples: worked examples as text, the same for all tasks of a category.
        hints: retrieved for the task; none for a student.
    """
    spans: dict[str, Span] = {}
    text = instructions
    if examples:
        start = len(text)
        text += "\n\nHere is an example." if len(examples) == 1 else f"\n\nHere are {len(examples)} examples."
        text += "".join(f"\n\n{example}" for example in examples)
        spans["examples"] = Span(0, start, len(text))
    text += f"{_TASK}{initial_observation}"
    block = format_hint_block(hints)
    if block:
        spans["hints"] = Span(0, len(text), len(text) + len(block))
        text += block
    return PromptPrefix(({"role": "user", "content": text},), spans)
