"""Hints with their sources and their vectors, and the embeddings of texts, in Postgres with pgvector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import AsyncConnection

from distillery.core.planner.plays import ON_POLICY, TEACHER
from distillery.database.connection import Database, Row

# Where the filter leaves no more hints than this, all of them are compared: nothing is missed, and it takes ten or
# twenty milliseconds. HNSW knows nothing of the filter, and misses one of ten (benchmarks/hint_search.py).
_MAX_EXACT = 10_000

# Else HNSW visits this many candidates, and continues in strict order where the filter leaves too few of them.
_APPROXIMATE = (
    "SET LOCAL hnsw.ef_search = 800",
    "SET LOCAL hnsw.iterative_scan = strict_order",
    "SET LOCAL hnsw.max_scan_tuples = 20000",
)

_OF_CATEGORIES = """
    SELECT id, category, topic, text FROM hint
    WHERE bank = %s AND environment = %s AND agent = %s AND category = ANY(%s) AND duplicate_of IS NULL
"""

FindDuplicates = Callable[[Sequence[Row]], Mapping[int, int]]
"""Returns the id of the hint that is kept, by the id of its duplicate.

The rows have ``id``, ``category``, ``topic`` and ``text``. They are sorted by category, and within it by support.
"""


@dataclass(frozen=True, slots=True)
class NewHint:
    """A hint to be added.

    Attributes:
        category: of the tasks it is for; empty for all.
        text: the hint.
        topic: what it is about; empty if unknown.
        episode_ids: the failures that it was extracted from.
        embedding: of the text, in pgvector's notation.
    """

    category: str
    text: str
    topic: str
    episode_ids: tuple[int, ...]
    embedding: str


class HintStore:
    """The hints of one run, environment and agent.

    Args:
        database: with the schema in place.
        bank: whose hints: the run's key.
        environment: name of the environment.
        agent: name of the agent.
    """

    def __init__(self, database: Database, *, bank: str, environment: str, agent: str) -> None:
        self._database = database
        self._bank = bank
        self._scope = (bank, environment, agent)

    async def add(
        self,
        hints: Sequence[NewHint],
        *,
        round: int,
        extractor: str,
        model: str,
        find_duplicates: FindDuplicates,
    ) -> tuple[int, int]:
        """Add hints, then mark the duplicates among all hints. Idempotent.

        Returns:
            The number of hints, and the number of duplicates among them.
        """

        async def work(connection: AsyncConnection[Row]) -> tuple[int, int]:
            # two workers that add at the same time would not see each other's duplicates
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", ("/".join(self._scope),))
            for hint in hints:
                await self._insert(connection, hint, (round, extractor, model))
            return await self._mark_duplicates(connection, find_duplicates)

        return await self._database.transaction(work)

    async def _insert(self, connection: AsyncConnection[Row], hint: NewHint, origin: tuple[int, str, str]) -> None:
        """Insert a hint unless it is there, and its sources; ``origin`` is (round, extractor, model)."""
        cursor = await connection.execute(
            """INSERT INTO hint (bank, environment, agent, category, text, topic, round, extractor, model, embedding)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::halfvec)
               ON CONFLICT (bank, environment, agent, category, text) DO UPDATE SET text = excluded.text
               RETURNING id""",
            (*self._scope, hint.category, hint.text, hint.topic, *origin, hint.embedding),
        )
        row = await cursor.fetchone()
        assert row is not None
        await connection.execute(
            "INSERT INTO hint_source (hint_id, episode_id) SELECT %s, unnest(%s::bigint[]) ON CONFLICT DO NOTHING",
            (row["id"], list(hint.episode_ids)),
        )
        await connection.execute(
            "UPDATE hint SET support = (SELECT count(*) FROM hint_source WHERE hint_id = %s) WHERE id = %s",
            (row["id"], row["id"]),
        )

    async def _mark_duplicates(
        self, connection: AsyncConnection[Row], find_duplicates: FindDuplicates
    ) -> tuple[int, int]:
        """Mark duplicates. A hint with more support wins over its duplicates; on a tie the newer one."""
        cursor = await connection.execute(
            """SELECT id, category, topic, text FROM hint WHERE bank = %s AND environment = %s AND agent = %s
               ORDER BY category, support DESC, round DESC, id""",
            self._scope,
        )
        rows = await cursor.fetchall()
        duplicates = find_duplicates(rows)
        await connection.execute(
            """UPDATE hint SET duplicate_of = settled.duplicate_of
               FROM unnest(%s::bigint[], %s::bigint[]) AS settled (id, duplicate_of)
               WHERE hint.id = settled.id AND hint.duplicate_of IS DISTINCT FROM settled.duplicate_of""",
            ([row["id"] for row in rows], [duplicates.get(row["id"]) for row in rows]),
        )
        return len(rows), len(duplicates)

    async def find_nearest(self, vector: str, categories: Sequence[str], limit: int) -> list[Row]:
        """Return the hints of categories that are nearest to a vector by cosine distance, without duplicates.

        Args:
            vector: in pgvector's notation.
            categories: whose hints are searched.
            limit: the maximum number of rows; each has ``id``, ``category``, ``topic`` and ``text``.
        """
        scope = (*self._scope, list(categories))

        async def find(connection: AsyncConnection[Row], query: LiteralString, *parameters: Any) -> list[Row]:
            # planned for its own filter: the plan that a server keeps for all of them reads the whole table
            cursor = await connection.execute(query, parameters, prepare=False)
            return await cursor.fetchall()

        async def work(connection: AsyncConnection[Row]) -> list[Row]:
            count = f"SELECT count(*) AS n FROM ({_OF_CATEGORIES} LIMIT %s) AS few"  # noqa: S608 - constants alone
            counted = await find(connection, count, *scope, _MAX_EXACT + 1)
            if counted[0]["n"] <= _MAX_EXACT:
                distance = "(embedding <=> %s::halfvec) + 0"  # which the index doesn't know
            else:
                distance = "embedding <=> %s::halfvec"
                for setting in _APPROXIMATE:
                    await connection.execute(setting)
            return await find(connection, f"{_OF_CATEGORIES} ORDER BY {distance} LIMIT %s", *scope, vector, limit)

        return await self._database.transaction(work)

    async def read(self) -> list[Row]:
        """Return every hint that is no duplicate, the one with the most support first."""
        return await self._database.fetch(
            """SELECT id, category, topic, text FROM hint
               WHERE bank = %s AND environment = %s AND agent = %s AND duplicate_of IS NULL
               ORDER BY support DESC, id""",
            *self._scope,
        )

    async def read_texts(self) -> list[str]:
        """Return the texts of all hints, also of duplicates and of those that only episodes still hold."""
        rows = await self._database.fetch(
            """SELECT text FROM hint WHERE bank = %s AND environment = %s AND agent = %s
               UNION SELECT unnest(hints) FROM episode JOIN run ON run.id = run_id WHERE run.key = %s
               ORDER BY text""",
            *self._scope,
            self._bank,
        )
        return [row["text"] for row in rows]

    async def read_statistics(self, *, plays_alike: bool) -> list[Row]:
        """Return each hint with its origin and the success of the teacher's episodes that were given it.

        Only like is compared with like. ``success_without`` is that of the teacher's episodes of the same rounds
        and categories that were given other hints, weighted as those with it. ``success_without_hints`` is that
        of own play at the same training tasks in the same rounds. Either is None if it isn't known for all of the
        hint's episodes.

        Args:
            plays_alike: the teacher is the model that plays without hints, and at the same temperature; otherwise
                ``success_without_hints`` is None.
        """
        return await self._database.fetch(
            """WITH taught AS (
                   SELECT episode.id, run_id, round, category, task_id, hint_ids, success::int AS success
                   FROM episode JOIN run ON run.id = episode.run_id
                   WHERE run.key = %s AND arm = %s AND phase = 'finished' AND cardinality(hint_ids) > 0),
               cell AS (SELECT round, category, count(*) AS n, sum(success) AS successes FROM taught GROUP BY 1, 2),
               alone AS (
                   SELECT run_id, round, task_id, avg(success::int)::float AS success FROM episode
                   WHERE arm = %s AND phase = 'finished' AND run_id IN (SELECT run_id FROM taught) GROUP BY 1, 2, 3),
               used AS (
                   SELECT hint_id, round, category, count(*) AS n, sum(taught.success) AS successes,
                          count(alone.success) AS n_alone, sum(alone.success) AS successes_alone
                   FROM taught CROSS JOIN unnest(hint_ids) AS given (hint_id)
                   LEFT JOIN alone USING (run_id, round, task_id) GROUP BY 1, 2, 3)
               SELECT hint.id, hint.category, text, support, hint.round, extractor, model,
                      coalesce(sum(used.n), 0)::bigint AS uses,
                      (sum(used.successes) / sum(used.n))::float AS success_with,
                      CASE WHEN bool_and(cell.n > used.n) THEN (
                          sum(used.n * (cell.successes - used.successes) / nullif(cell.n - used.n, 0)::float)
                          / sum(used.n))::float END AS success_without,
                      CASE WHEN %s AND sum(used.n_alone) = sum(used.n)
                           THEN (sum(used.successes_alone) / sum(used.n))::float END AS success_without_hints
               FROM hint LEFT JOIN used ON hint_id = hint.id
                    LEFT JOIN cell ON cell.round = used.round AND cell.category = used.category
               WHERE bank = %s AND environment = %s AND agent = %s AND duplicate_of IS NULL
               GROUP BY hint.id ORDER BY uses DESC, support DESC, hint.id""",
            self._bank, TEACHER, ON_POLICY, plays_alike,
            *self._scope,
        )  # fmt: skip


class EmbeddingStore:
    """The embeddings of texts, by the SHA-256 of the text."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, digests: Iterable[bytes]) -> dict[bytes, str]:
        """Return the embeddings that are stored, in pgvector's notation, by digest."""
        rows = await self._database.fetch(
            "SELECT sha256, embedding::text FROM embedding WHERE sha256 = ANY(%s)", list(digests)
        )
        return {row["sha256"]: row["embedding"] for row in rows}

    async def add(self, embeddings: Mapping[bytes, str]) -> None:
        """Store embeddings in pgvector's notation, by digest; those that are there already stay."""

        async def work(connection: AsyncConnection[Row]) -> None:
            await connection.cursor().executemany(
                "INSERT INTO embedding (sha256, embedding) VALUES (%s, %s::halfvec) ON CONFLICT DO NOTHING",
                list(embeddings.items()),
            )

        await self._database.transaction(work)


def to_notation(vector: NDArray[np.float32]) -> str:
    """Return a vector in pgvector's notation, rounded to half precision."""
    return HalfVector(vector).to_text()
