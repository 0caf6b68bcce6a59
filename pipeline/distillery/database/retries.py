"""The rows of a failed stage that are deleted before it starts again, so that no cached failure is reused.

The cause of the failure may have been removed. Attempts count from zero, episodes that broke or were refused are played
again, and the extractor is asked again if its replies were unusable. Everything else is kept.
"""

from __future__ import annotations

from psycopg import AsyncConnection

from distillery.core.api import Spec
from distillery.core.planner import Kind, StageId
from distillery.core.planner.graph import BASE, round_stages
from distillery.database.connection import Database, Row


async def forgive_failed(database: Database, run_id: int, spec: Spec) -> None:
    """Forget that stages of a run failed. Call it while holding the run's lock."""

    async def work(connection: AsyncConnection[Row]) -> None:
        cursor = await connection.execute(
            "DELETE FROM stage WHERE run_id = %s AND phase = 'failed' RETURNING name", (run_id,)
        )
        for row in await cursor.fetchall():
            await _forget(connection, run_id, spec, StageId.parse(row["name"]))

    await database.transaction(work)


async def forgive_stage(database: Database, run_id: int, spec: Spec, stage: StageId, request: str) -> None:
    """Forget that a stage failed before a request to retry, once for all processes of the attempt."""

    async def work(connection: AsyncConnection[Row]) -> None:
        cursor = await connection.execute(
            """INSERT INTO stage (run_id, name, phase, retry) VALUES (%s, %s, 'running', %s)
               ON CONFLICT (run_id, name) DO UPDATE SET retry = excluded.retry
               WHERE stage.retry <> excluded.retry AND stage.phase <> 'succeeded'""",
            (run_id, str(stage), request),
        )
        if cursor.rowcount:
            await _forget(connection, run_id, spec, stage)

    await database.transaction(work)


async def _forget(connection: AsyncConnection[Row], run_id: int, spec: Spec, stage: StageId) -> None:
    """Forget what an attempt at a stage left behind that only repeats its failure."""
    if stage.kind is Kind.HINTS:
        await connection.execute(
            """DELETE FROM extraction USING episode
               WHERE episode.id = episode_id AND run_id = %s AND problem <> ''""",
            (run_id,),
        )
        return
    arms = [arm for other in round_stages(spec, stage.round, BASE) if other.id == stage for arm in other.arms]
    await connection.execute(
        """WITH again AS (
               UPDATE episode SET phase = 'waiting', worker = NULL, lease = 0, lease_until = NULL, failures = 0,
                      success = NULL, score = NULL, stop_reason = NULL, error = NULL, started_at = NULL,
                      finished_at = NULL
               WHERE run_id = %s AND round = %s AND arm = ANY(%s)
                 AND (phase <> 'finished' OR stop_reason IN ('broken', 'refused'))
               RETURNING id)
           DELETE FROM turn USING again WHERE episode_id = again.id""",
        (run_id, stage.round, arms),
    )
