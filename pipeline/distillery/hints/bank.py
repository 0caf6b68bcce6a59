"""The hint bank: hints in Postgres with pgvector, each with where it came from and how its use went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from rapidfuzz import fuzz, process

from distillery.core.api import DistillationRun
from distillery.database import Database, Row
from distillery.database.hints import HintStore, NewHint
from distillery.hints.base import EVERY_CATEGORY, Hint, HintCandidate
from distillery.hints.embedder import Embedder


class HintBank:
    """The hints of one run, environment and agent.

    Args:
        database: with the schema in place.
        bank: whose hints: the run's key.
        environment: name of the environment.
        agent: name of the agent: what helps one format may hinder another.
        retriever: name of the run's retriever, whose choice some controls start from.
    """

    def __init__(
        self, database: Database, *, bank: str, environment: str, agent: str, retriever: str = "embedding"
    ) -> None:
        self.retriever = retriever
        self._store = HintStore(database, bank=bank, environment=environment, agent=agent)
        self.embedder = Embedder(database)

    @classmethod
    def of(cls, run: DistillationRun, database: Database) -> Self:
        """Return the bank of a run."""
        spec = run.spec
        retriever = spec.hints.retriever
        return cls(
            database, bank=run.key, environment=spec.environment.name, agent=spec.agent.name, retriever=retriever
        )

    async def add(
        self, candidates: Sequence[HintCandidate], *, round: int, extractor: str, model: str, similarity: float
    ) -> dict[str, int]:
        """Add the hints that an extractor found, then mark the duplicates among all hints.

        Idempotent. Returns the counts ``extracted``, ``hints`` (kept in the bank now) and ``duplicates``.
        """
        vectors = await self.embedder.vectors([candidate.text for candidate in candidates])

        def find_among(rows: Sequence[Row]) -> dict[int, int]:
            hints = [(row["id"], row["category"], row["topic"], row["text"]) for row in rows]
            return find_duplicates(hints, similarity)

        hints, duplicates = await self._store.add(
            [NewHint(one.category, one.text, one.topic, one.episode_ids, vectors[one.text]) for one in candidates],
            round=round,
            extractor=extractor,
            model=model,
            find_duplicates=find_among,
        )
        return {"extracted": len(candidates), "hints": hints - duplicates, "duplicates": duplicates}

    async def nearest(self, vector: str, category: str, k: int) -> list[Hint]:
        """Return the ``k`` hints for a category nearest to a vector, in pgvector's notation, by cosine distance."""
        return _hints(await self._store.find_nearest(vector, [category, EVERY_CATEGORY], k))

    async def all(self) -> list[Hint]:
        """Return every hint that is no duplicate, the one with the most support first."""
        return _hints(await self._store.read())

    async def ever_shown(self) -> list[str]:
        """Return the texts of all hints: of duplicates, of earlier rounds, and of those that only episodes still hold.

        A hint that lost to a duplicate may win in a later round, and was shown to episodes before.
        """
        return await self._store.read_texts()

    async def statistics(self, *, plays_alike: bool) -> list[dict[str, Any]]:
        """Return each hint with its origin and its effect, as :meth:`HintStore.read_statistics` does."""
        return await self._store.read_statistics(plays_alike=plays_alike)


def find_duplicates(hints: Sequence[tuple[int, str, str, str]], similarity: float) -> dict[int, int]:
    """Find the hints that duplicate others.

    Args:
        hints: (id, category, topic, text), sorted by category and, within it, the winners first.
        similarity: texts more alike than this are duplicates (share of characters in the longest common subsequence).

    Returns:
        The id of the hint that wins, by the id of its duplicate.
    """
    duplicates: dict[int, int] = {}
    by_topic: dict[tuple[str, str], int] = {}
    by_text: dict[str, dict[int, str]] = {}
    for hint_id, category, topic, text in hints:
        if topic:
            winner = by_topic.setdefault((category, topic), hint_id)
            if winner != hint_id:
                duplicates[hint_id] = winner
            continue
        kept = by_text.setdefault(category, {})
        # the score has to exceed the threshold, not to reach it
        match = process.extractOne(text, kept, scorer=fuzz.ratio, score_cutoff=similarity * 100)
        if match and match[1] > similarity * 100:
            duplicates[hint_id] = match[2]
        else:
            kept[hint_id] = text
    return duplicates


def _hints(rows: Sequence[Row]) -> list[Hint]:
    return [Hint(row["id"], row["category"], row["text"], row["topic"]) for row in rows]
