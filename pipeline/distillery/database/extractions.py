"""The replies of language models about failed episodes, good or bad: all are kept, so none is paid for twice."""

from __future__ import annotations

from dataclasses import dataclass

from distillery.database.connection import Database


@dataclass(frozen=True, slots=True)
class Extraction:
    """One reply.

    Attributes:
        reply: the model's words; empty where it gave none.
        problem: what is wrong with it; empty if nothing.
        prompt_tokens: as the server counted them.
        completion_tokens: as the server counted them.
        cached_tokens: None where the server does not report them.
    """

    reply: str
    problem: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None


async def read_extractions(database: Database, episode_id: int, extractor: str) -> list[Extraction]:
    """Return the replies on an episode, in the order in which they were asked for."""
    rows = await database.fetch(
        """SELECT reply, problem, prompt_tokens, completion_tokens, cached_tokens
           FROM extraction WHERE episode_id = %s AND extractor = %s ORDER BY attempt""",
        episode_id, extractor,
    )  # fmt: skip
    return [Extraction(**row) for row in rows]


async def add_extraction(
    database: Database, episode_id: int, extractor: str, attempt: int, extraction: Extraction
) -> None:
    """Keep a reply. Idempotent."""
    await database.execute(
        """INSERT INTO extraction
               (episode_id, extractor, attempt, reply, problem, prompt_tokens, completion_tokens, cached_tokens)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
        episode_id, extractor, attempt, extraction.reply.replace("\0", ""), extraction.problem.replace("\0", ""),
        extraction.prompt_tokens, extraction.completion_tokens, extraction.cached_tokens,
    )  # fmt: skip


async def extraction_tokens(database: Database, run_id: int) -> dict[int, dict[str, int | None]]:
    """Return the tokens of extraction by the round of the episodes; rounds without any are left out."""
    rows = await database.fetch(
        """SELECT round, sum(x.prompt_tokens)::bigint AS prompt, sum(x.completion_tokens)::bigint AS completion,
                  CASE WHEN bool_and(x.cached_tokens IS NOT NULL) THEN sum(x.cached_tokens)::bigint END AS cached
           FROM extraction x JOIN episode ON episode.id = x.episode_id
           WHERE run_id = %s AND x.prompt_tokens > 0 GROUP BY round""",
        run_id,
    )  # fmt: skip
    return {row.pop("round"): row for row in rows}
