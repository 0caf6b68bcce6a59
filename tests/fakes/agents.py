"""Fakes and builders shared by unit tests. What only a fake proved is proved again on the real thing elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from distillery.agents import PromptPrefix
from distillery.environments.base import Example, ExampleTurn, Fact, Observation, Report, Session, Task
from distillery.episodes import Episode, Turn


class FakeEnvironment:
    """A made-up environment with one worked example a category."""

    name: ClassVar[str] = "fake"
    instructions: str = "You live in a test. Commands: go to PLACE, take THING from PLACE."
    verbs: ClassVar[tuple[str, ...]] = ("go to", "take", "look")
    state_keys: ClassVar[tuple[str, ...]] = ("goal", "current location")
    placeholders: ClassVar[tuple[str, ...]] = ("{object}",)
    thoughts: ClassVar[bool] = True
    held_out_split: ClassVar[str] = "test"
    goal_is_task: bool = False

    def __init__(self, options: Mapping[str, Any] | None = None, folder: Path = Path()) -> None:
        self.source = "made up"

    def limit_steps(self, number: int) -> None:
        """Do nothing: the instructions state no limit."""

    def splits(self) -> Mapping[str, int | None]:
        return {}

    def prepare(self, wanted: Mapping[str, int], *, report: Report = lambda done, total: None) -> None: ...

    def labels(self, task: Task) -> Sequence[str]:
        return ()

    def catalog(self, split: str) -> Sequence[Task]:
        return [task(number, split=split) for number in range(20)]

    def load(self) -> None: ...

    def open(self, task: Task) -> Session:
        raise NotImplementedError

    def examples(self, category: str) -> Sequence[Example]:
        turns = (
            ExampleTurn(
                "the quill is surely to be found somewhere near the old writing desk",
                "go to desk 7",
                "You arrive at desk 7. On the desk 7, you see a quill 1.",
                {"goal": "find the quill", "current location": "start"},
            ),
            ExampleTurn(
                "",
                "take quill 1 from desk 7",
                "You pick up the quill 1 from the desk 7.",
                {"goal": "find the quill", "current location": "desk 7"},
            ),
        )
        return [Example("You stand in a study with a desk 7 and a lamp 2.\nYour task is to: find the quill.", turns)]

    def goal(self, opening: str) -> str:
        return opening.partition("Your task is to: ")[2].rstrip(".")

    def read(self, opening: str, turns: Sequence[tuple[str, str]]) -> list[Fact]:
        return []


def task(number: int = 1, *, split: str = "train", category: str = "put") -> Task:
    return Task(f"{split}/{number}", split, category, f"put mug {number} in shelf")


def turn(reply: str, observation: str, *, action: str | None = None, valid: bool = True, first_turn: int = 0) -> Turn:
    return Turn(reply, action or reply, observation, valid, first_turn, 10, 3, None, 0.1)


def episode(
    turns: Sequence[Turn],
    *,
    prefix: PromptPrefix,
    initial_observation: str,
    of: Task | None = None,
    number: int = 1,
    success: bool = True,
    hints: Sequence[str] = (),
    examples: int = 0,
    arm: str = "teacher",
) -> Episode:
    return Episode(
        id=number,
        task=of or task(),
        arm=arm,
        seed=0,
        success=success,
        score=float(success),
        stop="success" if success else "steps",
        initial_observation=initial_observation,
        prompt_prefix=prefix,
        examples=examples,
        hint_ids=(),
        hints=tuple(hints),
        turns=tuple(turns),
    )


def observation(text: str, **fields: Any) -> Observation:
    return Observation(text, **fields)
