"""The hint bank: hints in Postgres with pgvector, each with where it came from and how its use went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg import AsyncConnection
from rapidfuzz import fuzz, process

from distillery.core.planner.graph import OWN, TEACHER
from distillery.database import Database, Row
from distillery.hints.base import EVERY_CATEGORY, Hint, Mention
from distillery.hints.embedder import Embedder

# Where the filter leaves no more hints than this, all of them are compared: nothing is missed, and it takes ten or
# twenty milliseconds. HNSW knows nothing of the filter, and misses one of ten (benchmarks/hint_search.py).
_FEW = 10_000

# Else HNSW visits this many candidates, and goes on in strict order where the filter leaves too few of them.
_APPROXIMATE = (
    "SET LOCAL hnsw.ef_search = 800",
    "SET LOCAL hnsw.iterative_scan = strict_order",
    "SET LOCAL hnsw.max_scan_tuples = 20000",
)

_FITTING = """
    SELECT id, category, text FROM hint
    WHERE bank = %s AND environment = %s AND agent = %s AND category = ANY(%s) AND duplicate_of IS NULL
"""


class HintBank:
    """The hints of one run, environment and agent.

    Args:
        database: with the schema in place.
        bank: whose hints: the run's key.
        environment: name of the environment.
        agent: name of the agent: what helps one format may hinder another.
    """

    def __init__(self, database: Database, *, bank: str, environment: str, agent: str) -> None:
        self._database = database
        self._scope = (bank, environment, agent)
        self.embedder = Embedder(database)

    async def add(
        self, mentions: Sequence[Mention], *, round: int, extractor: str, model: str, similarity: float
    ) -> dict[str, int]:
        """Add the hints that an extractor found, then mark the duplicates among all hints.

        Idempotent. Returns the counts ``extracted``, ``hints`` (kept in the bank now) and ``duplicates``.
        """
        vectors = await self.embedder.vectors([mention.text for mention in mentions])

        async def work(connection: AsyncConnection[Row]) -> dict[str, int]:
            # two workers that add at once would not see each other's duplicates
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", ("/".join(self._scope),))
            for mention in mentions:
                await self._add(connection, mention, vectors[mention.text], round, extractor, model)
            return {"extracted": len(mentions), **await self._settle_twins(connection, similarity)}

        return await self._database.transaction(work)

    async def _add(
        self,
        connection: AsyncConnection[Row],
        mention: Mention,
        vector: str,
        round: int,
        extractor: str,
        model: str,
    ) -> None:
        cursor = await connection.execute(
            """INSERT INTO hint (bank, environment, agent, category, text, topic, round, extractor, model, embedding)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::halfvec)
               ON CONFLICT (bank, environment, agent, category, text) DO UPDATE SET text = excluded.text
               RETURNING id""",
            (*self._scope, mention.category, mention.text, mention.subject, round, extractor, model,
             vector),
        )  # fmt: skip
        row = await cursor.fetchone()
        assert row is not None
        await connection.execute(
            "INSERT INTO hint_source (hint_id, episode_id) SELECT %s, unnest(%s::bigint[]) ON CONFLICT DO NOTHING",
            (row["id"], list(mention.episode_ids)),
        )
        await connection.execute(
            "UPDATE hint SET support = (SELECT count(*) FROM hint_source WHERE hint_id = %s) WHERE id = %s",
            (row["id"], row["id"]),
        )

    async def _settle_twins(self, connection: AsyncConnection[Row], similarity: float) -> dict[str, int]:
        """Within a category the hint with more support wins over its duplicates; on a tie the newer one."""
        cursor = await connection.execute(
            """SELECT id, category, topic, text FROM hint WHERE bank = %s AND environment = %s AND agent = %s
               ORDER BY category, support DESC, round DESC, id""",
            self._scope,
        )
        rows = await cursor.fetchall()
        twins = twins_of([(row["id"], row["category"], row["topic"], row["text"]) for row in rows], similarity)
        await connection.execute(
            """UPDATE hint SET duplicate_of = settled.duplicate_of
               FROM unnest(%s::bigint[], %s::bigint[]) AS settled (id, duplicate_of)
               WHERE hint.id = settled.id AND hint.duplicate_of IS DISTINCT FROM settled.duplicate_of""",
            ([row["id"] for row in rows], [twins.get(row["id"]) for row in rows]),
        )
        return {"hints": len(rows) - len(twins), "duplicates": len(twins)}

    async def nearest(self, vector: str, category: str, k: int) -> list[Hint]:
        """Return the ``k`` hints for a category nearest to a vector, in pgvector's notation, by cosine distance."""
        scope = (*self._scope, [category, EVERY_CATEGORY])

        async def find(connection: AsyncConnection[Row], query: LiteralString, *parameters: Any) -> list[Row]:
            # planned for its own filter: the plan that a server keeps for all of them reads the whole table
            cursor = await connection.execute(query, parameters, prepare=False)
            return await cursor.fetchall()

        async def work(connection: AsyncConnection[Row]) -> list[Row]:
            count = f"SELECT count(*) AS n FROM ({_FITTING} LIMIT %s) AS few"  # noqa: S608 - constants alone
            counted = await find(connection, count, *scope, _FEW + 1)
            if counted[0]["n"] <= _FEW:
                distance = "(embedding <=> %s::halfvec) + 0"  # which the index doesn't know
            else:
                distance = "embedding <=> %s::halfvec"
                for setting in _APPROXIMATE:
                    await connection.execute(setting)
            return await find(connection, f"{_FITTING} ORDER BY {distance} LIMIT %s", *scope, vector, k)

        return _hints(await self._database.transaction(work))

    async def all(self) -> list[Hint]:
        """Return every hint that is no duplicate, the one with the most support first."""
        return _hints(
            await self._database.fetch(
                """SELECT id, category, text FROM hint
                   WHERE bank = %s AND environment = %s AND agent = %s AND duplicate_of IS NULL
                   ORDER BY support DESC, id""",
                *self._scope,
            )
        )

    async def ever_shown(self) -> list[str]:
        """Return the texts of all hints: of duplicates, of earlier rounds, and of those that only episodes still hold.

        What lost to a duplicate may win in a later round, and was shown to episodes before.
        """
        rows = await self._database.fetch(
            """SELECT text FROM hint WHERE bank = %s AND environment = %s AND agent = %s
               UNION SELECT unnest(hints) FROM episode JOIN run ON run.id = run_id WHERE run.key = %s
               ORDER BY text""",
            *self._scope,
            self._scope[0],
        )
        return [row["text"] for row in rows]

    async def statistics(self, *, plays_alike: bool) -> list[dict[str, Any]]:
        """Return each hint with its provenance and its effect: the success of the teacher's episodes that were given
        it.

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
            self._scope[0], TEACHER, OWN, plays_alike,
            *self._scope,
        )  # fmt: skip


def twins_of(hints: Sequence[tuple[int, str, str, str]], similarity: float) -> dict[int, int]:
    """Find the hints that duplicate others.

    Args:
        hints: (id, category, subject, text), sorted by category and, within it, the winners first.
        similarity: texts more alike than this are duplicates (share of characters in the longest common subsequence).

    Returns:
        The id of the hint that wins, by the id of its duplicate.
    """
    twins: dict[int, int] = {}
    by_subject: dict[tuple[str, str], int] = {}
    by_text: dict[str, dict[int, str]] = {}
    for hint_id, category, subject, text in hints:
        if subject:
            winner = by_subject.setdefault((category, subject), hint_id)
            if winner != hint_id:
                twins[hint_id] = winner
            continue
        kept = by_text.setdefault(category, {})
        # the score has to exceed the threshold, not to reach it
        match = process.extractOne(text, kept, scorer=fuzz.ratio, score_cutoff=similarity * 100)
        if match and match[1] > similarity * 100:
            twins[hint_id] = match[2]
        else:
            kept[hint_id] = text
    return twins


def _hints(rows: Sequence[Row]) -> list[Hint]:
    return [Hint(row["id"], row["category"], row["text"]) for row in rows]
