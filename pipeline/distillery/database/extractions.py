"""The replies of language models about failed episodes. All are stored, so that none is paid for twice."""

from __future__ import annotations

from dataclasses import dataclass

from distillery.database.connection import Database


@dataclass(frozen=True, slots=True)
class Extraction:
    """One reply.

    Attributes:
        reply: the text of the model; empty where it gave none.
        problem: why it is unusable; empty if it is usable.
        prompt_tokens: as the server counted them.
        completion_tokens: as the server counted them.
        cached_tokens: None where the server does not report them.
    """

    reply: str
    problem: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None


class ExtractionStore:
    """The replies of all runs; an episode belongs to one run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, episode_id: int, extractor: str) -> list[Extraction]:
        """Return the replies on an episode, in the order in which they were asked for."""
        rows = await self._database.fetch(
            """SELECT reply, problem, prompt_tokens, completion_tokens, cached_tokens
               FROM extraction WHERE episode_id = %s AND extractor = %s ORDER BY attempt""",
            episode_id, extractor,
        )  # fmt: skip
        return [Extraction(**row) for row in rows]

    async def add(self, episode_id: int, extractor: str, attempt: int, extraction: Extraction) -> None:
        """Store a reply. Idempotent."""
        await self._database.execute(
            """INSERT INTO extraction
                   (episode_id, extractor, attempt, reply, problem, prompt_tokens, completion_tokens, cached_tokens)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
            episode_id, extractor, attempt, extraction.reply.replace("\0", ""), extraction.problem.replace("\0", ""),
            extraction.prompt_tokens, extraction.completion_tokens, extraction.cached_tokens,
        )  # fmt: skip

    async def count_unusable(self, run_id: int) -> int:
        """Return how many replies of a run have a problem."""
        rows = await self._database.fetch(
            """SELECT count(*) AS n FROM extraction JOIN episode ON episode.id = episode_id
               WHERE run_id = %s AND problem <> ''""",
            run_id,
        )
        return rows[0]["n"]

    async def count_tokens(self, run_id: int) -> dict[int, dict[str, int | None]]:
        """Return the tokens of extraction by the round of the episodes, for the rounds that have any."""
        rows = await self._database.fetch(
            """SELECT round, sum(x.prompt_tokens)::bigint AS prompt, sum(x.completion_tokens)::bigint AS completion,
                      CASE WHEN bool_and(x.cached_tokens IS NOT NULL) THEN sum(x.cached_tokens)::bigint END AS cached,
                      count(*) AS calls
               FROM extraction x JOIN episode ON episode.id = x.episode_id
               WHERE run_id = %s AND x.prompt_tokens > 0 GROUP BY round""",
            run_id,
        )
        return {row.pop("round"): row for row in rows}
