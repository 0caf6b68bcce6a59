"""The parts that agents for chat models share: one user message with instructions, examples, the task and the hints."""

from __future__ import annotations

from collections.abc import Sequence

from distillery.agents.base import Head, Span, hint_block
from distillery.environments.base import Task

_TASK = "\n\nHere is the task.\n\n"


def opening_of(content: str) -> str:
    """Return the environment's opening in the user's first message: all of it if the agent sends nothing else."""
    return content.rpartition(_TASK)[2]


def chat_head(
    instructions: str, examples: Sequence[str], task: Task, opening: str, hints: Sequence[str], *, begin: str = ""
) -> Head:
    """Return one user message: first what many tasks share, then the task, then the hints.

    Everything stands in one user message because some chat templates know no system role.

    Args:
        instructions: the same for all tasks.
        examples: worked examples as text, the same for all tasks of a category.
        task: what is played.
        opening: the environment's first observation, which states the task.
        hints: retrieved for the task; none for a student.
        begin: the last line, after the hints.
    """
    spans: dict[str, Span] = {}
    text = instructions
    if examples:
        start = len(text)
        word = "an example" if len(examples) == 1 else f"{len(examples)} examples"
        text += f"\n\nHere is {word}." if len(examples) == 1 else f"\n\nHere are {word}."
        text += "".join(f"\n\n{example}" for example in examples)
        spans["examples"] = Span(0, start, len(text))
    text += f"{_TASK}{opening}"
    block = hint_block(hints)
    if block:
        spans["hints"] = Span(0, len(text), len(text) + len(block))
        text += block
    text += begin
    return Head(({"role": "user", "content": text},), spans)
