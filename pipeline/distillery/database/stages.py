"""The stages of a run in the database: their states, their progress, and what a retry deletes.

The cause of a failure may have been removed. So before a stage starts again its attempts count from zero, episodes that
broke or were refused are played again, and the extractor is asked again if its replies were unusable. All other rows
stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import AsyncConnection
from psycopg.types.json import Json

from distillery.core.api import Spec
from distillery.core.planner import Kind, StageId, StagePhase, StageResult, StageState
from distillery.core.planner.plan import stages_so_far
from distillery.database.connection import Database, Row


class StageStore:
    """The stages of one run."""

    def __init__(self, database: Database, run_id: int) -> None:
        self._database = database
        self._run_id = run_id

    async def read(self) -> list[Row]:
        """Return every stage's row, in the order of their starts."""
        return await self._database.fetch("SELECT * FROM stage WHERE run_id = %s ORDER BY started_at", self._run_id)

    async def read_states(self) -> dict[StageId, StageState]:
        """Return the state of each stage."""
        return states_of(await self.read())

    async def begin(self, stage: StageId, attempt: int) -> None:
        """Record that an attempt at a stage started."""
        await self._database.execute(
            """INSERT INTO stage (run_id, name, phase, attempts) VALUES (%s, %s, 'running', %s)
               ON CONFLICT (run_id, name) DO UPDATE
               SET phase = 'running', attempts = excluded.attempts, message = '', permanent = false,
                   finished_at = NULL""",
            self._run_id, str(stage), attempt,
        )  # fmt: skip

    async def end(self, stage: StageId, state: StageState) -> None:
        """Record how an attempt at a stage ended; a failure leaves the result of an earlier attempt."""
        await self._database.execute(
            """UPDATE stage SET phase = %s, attempts = %s, permanent = %s, message = %s, result = coalesce(%s, result),
                                finished_at = now()
               WHERE run_id = %s AND name = %s""",
            state.phase, state.attempts, state.permanent, state.message,
            Json(dict(state.result.document)) if state.phase == StagePhase.SUCCEEDED else None,
            self._run_id, str(stage),
        )  # fmt: skip

    async def report_progress(self, stage: StageId, *, done: int, total: int, unit: str) -> None:
        """Record a running stage's progress, for displays and scripts."""
        await self._database.execute(
            """INSERT INTO stage (run_id, name, phase, done, total, unit) VALUES (%s, %s, 'running', %s, %s, %s)
               ON CONFLICT (run_id, name) DO UPDATE
               SET done = excluded.done, total = excluded.total, unit = excluded.unit""",
            self._run_id, str(stage), done, total, unit,
        )  # fmt: skip

    async def forget_failures(self, spec: Spec) -> None:
        """Forget that stages failed. Call it while holding the run's lock."""

        async def work(connection: AsyncConnection[Row]) -> None:
            arms = await self._find_arms(connection, spec)
            cursor = await connection.execute(
                "DELETE FROM stage WHERE run_id = %s AND phase = 'failed' RETURNING name", (self._run_id,)
            )
            for row in await cursor.fetchall():
                stage = StageId.parse(row["name"])
                await _forget(connection, self._run_id, stage, arms.get(stage, ()))

        await self._database.transaction(work)

    async def forget_failure(self, spec: Spec, stage: StageId, *, request: str) -> None:
        """Forget that a stage failed before a request to retry, once for all processes of the attempt."""

        async def work(connection: AsyncConnection[Row]) -> None:
            cursor = await connection.execute(
                """INSERT INTO stage (run_id, name, phase, retry) VALUES (%s, %s, 'running', %s)
                   ON CONFLICT (run_id, name) DO UPDATE SET retry = excluded.retry
                   WHERE stage.retry <> excluded.retry AND stage.phase <> 'succeeded'""",
                (self._run_id, str(stage), request),
            )
            if cursor.rowcount:
                arms = await self._find_arms(connection, spec)
                await _forget(connection, self._run_id, stage, arms.get(stage, ()))

        await self._database.transaction(work)

    async def _find_arms(self, connection: AsyncConnection[Row], spec: Spec) -> dict[StageId, tuple[str, ...]]:
        """Return the arms that each stage of the rounds so far plays."""
        cursor = await connection.execute("SELECT * FROM stage WHERE run_id = %s", (self._run_id,))
        return {stage.id: stage.arms for stage in stages_so_far(spec, states_of(await cursor.fetchall()))}


def states_of(rows: Iterable[Row]) -> dict[StageId, StageState]:
    """Return the states that rows of the table ``stage`` hold."""
    return {
        StageId.parse(row["name"]): StageState(
            StagePhase(row["phase"]),
            row["attempts"],
            row["permanent"],
            row["message"],
            StageResult.read(row["result"] or {}),
        )
        for row in rows
    }


def read_results(rows: Iterable[Row]) -> dict[str, Row]:
    """Return the manifests that rows of the table ``stage`` hold, by stage."""
    return {row["name"]: row["result"] for row in rows if row["result"]}


async def _forget(connection: AsyncConnection[Row], run_id: int, stage: StageId, arms: Sequence[str]) -> None:
    """Delete the rows of an attempt at a stage that only repeat its failure."""
    if stage.kind is Kind.HINTS:
        await connection.execute(
            """DELETE FROM extraction USING episode
               WHERE episode.id = episode_id AND run_id = %s AND problem <> ''""",
            (run_id,),
        )
        return
    await connection.execute(
        """WITH again AS (
               UPDATE episode SET phase = 'waiting', worker = NULL, lease = 0, lease_until = NULL, failures = 0,
                      success = NULL, score = NULL, stop_reason = NULL, error = NULL, started_at = NULL,
                      finished_at = NULL
               WHERE run_id = %s AND round = %s AND arm = ANY(%s)
                 AND (phase <> 'finished' OR stop_reason IN ('broken', 'refused'))
               RETURNING id)
           DELETE FROM turn USING again WHERE episode_id = again.id""",
        (run_id, stage.round, list(arms)),
    )
