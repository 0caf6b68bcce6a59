"""Hints, and the two small interfaces around the bank: extractors fill it, retrievers read it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from distillery.core.api import Spec
from distillery.database import Database
from distillery.environments.base import Environment, Task
from distillery.episodes import Episode

EVERY_CATEGORY = ""
"""The category of a hint that holds whatever the task."""


@dataclass(frozen=True, slots=True)
class HintCandidate:
    """A hint as an extractor found it.

    Attributes:
        category: of the tasks it is for; :data:`EVERY_CATEGORY` for all.
        text: imperative, normalized.
        episode_ids: the failures it was found in.
        topic: its topic, if the extractor knows it: of two hints on one topic only the one with more support is kept,
            and hints on different topics are never duplicates. Empty if only the text decides.
    """

    category: str
    text: str
    episode_ids: tuple[int, ...]
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Hint:
    """A hint of the bank.

    Attributes:
        id: in the table of hints.
        category: of the tasks it is for; :data:`EVERY_CATEGORY` for all.
        text: the hint.
        topic: what it is about; empty if its extractor did not say.
    """

    id: int
    category: str
    text: str
    topic: str = ""


@dataclass(frozen=True, slots=True)
class ExtractionContext:
    """The inputs of an extractor."""

    spec: Spec
    environment: Environment
    database: Database
    api_key: str
    report: Any
    """``await report(done, total)``."""
    successes: Sequence[Episode] = ()
    """The successes that the failures can be compared with."""


class Extractor(Protocol):
    """An extractor of hints from failed episodes. ``distillery.extractors`` is its group of entry points."""

    name: ClassVar[str]

    def __init__(self, context: ExtractionContext) -> None: ...

    @property
    def model(self) -> str:
        """The language model it asks, recorded with each hint; empty if none."""
        ...

    async def extract(self, failures: Sequence[Episode]) -> list[HintCandidate]:
        """Return all hints that the failures of all rounds so far teach.

        May keep replies in the database to resume from.
        """
        ...


class Retriever(Protocol):
    """A chooser of hints for tasks, before their first step. ``distillery.retrievers`` is its entry-point group."""

    name: ClassVar[str]

    def __init__(self, bank: Any) -> None: ...

    async def retrieve(self, tasks: Sequence[Task], *, k: int) -> list[list[Hint]]:
        """Return up to ``k`` hints for each task, the best first."""
        ...


_CONTROL_TOKEN = re.compile(r"<\|[^|>]*\|?>|</?s>|\[/?INST\]|={3,}|`{3,}", re.IGNORECASE)


def normalize(text: str, *, max_length: int) -> str:
    """Return a hint's text as it is stored and compared; empty if nothing usable is left.

    Hints are untrusted: a model wrote them after reading an environment. Control characters, the control tokens of
    chat templates and fences are removed, so that a hint can't end the block it stands in.
    """
    text = unicodedata.normalize("NFKC", text)
    text = _CONTROL_TOKEN.sub(" ", text)
    text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    text = " ".join(text.split()).lower()
    return text if len(text) <= max_length and any(c.isalpha() for c in text) else ""
