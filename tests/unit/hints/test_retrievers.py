"""The controls among the retrievers: the form of the task's own hints, and something else said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from distillery.core import plugins
from distillery.environments.base import Task
from distillery.hints.base import EVERY_CATEGORY, Hint

MUG = Hint(1, EVERY_CATEGORY, "look for a mug in desk, shelf", "place of mug")
PEN = Hint(2, EVERY_CATEGORY, "look for a pen in drawer", "place of pen")
TAKE = Hint(3, EVERY_CATEGORY, "take only when at the thing", "precondition of take")
PLAIN = Hint(4, EVERY_CATEGORY, "be careful with glass")
TASK = Task("train/1", "train", "put", "put a mug in shelf 1")


class FakeBank:
    """Holds what a test gives it; the first hint is the one with the most support."""

    def __init__(self, hints: Sequence[Hint], retriever: str = "frequent") -> None:
        self._hints, self.retriever = list(hints), retriever

    async def all(self) -> list[Hint]:
        return self._hints


async def retrieve(name: str, *hints: Hint, k: int = 1) -> list[Hint]:
    (found,) = await plugins.load("retrievers", name)(cast(Any, FakeBank(hints))).retrieve([TASK], k=k)
    return found


async def test_inert_text_has_the_form_of_a_hint_and_the_words_of_the_goal():
    (given,) = await retrieve("inert", MUG, PEN)
    assert given.text == "put a mug in shelf put, a"
    assert given.id != MUG.id


async def test_shuffled_hint_says_of_its_subject_what_holds_for_another():
    assert [given.text for given in await retrieve("shuffled", MUG, PEN, TAKE)] == ["look for a mug in drawer"]
    assert [given.text for given in await retrieve("shuffled", PEN, MUG)] == ["look for a pen in desk, shelf"]


async def test_hint_is_left_out_when_there_is_nothing_to_shuffle_it_with():
    assert await retrieve("shuffled", MUG, TAKE) == []
    assert await retrieve("shuffled", PLAIN, MUG) == []


async def test_controls_choose_as_the_runs_own_retriever_does():
    assert [len(await retrieve(name, MUG, PEN, k=2)) for name in ("inert", "shuffled")] == [2, 2]
