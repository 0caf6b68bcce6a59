"""The students that runs served, with the times: more entries than the status of a run can hold."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import AsyncConnection

from distillery.core.contracts.serving_history import ServingEntry
from distillery.database.connection import Database, Row


class ServingHistoryStore:
    """The students that one run served."""

    def __init__(self, database: Database, run_id: int) -> None:
        self._database = database
        self._run_id = run_id

    async def add(self, entries: Iterable[ServingEntry]) -> None:
        """Store entries; those that are there already stay. Idempotent."""
        rows = [
            (self._run_id, entry.time, entry.student, entry.round, entry.reason.replace("\0", "")) for entry in entries
        ]

        async def work(connection: AsyncConnection[Row]) -> None:
            await connection.cursor().executemany(
                """INSERT INTO serving_history (run_id, since, student, round, reason) VALUES (%s, %s, %s, %s, %s)
                   ON CONFLICT DO NOTHING""",
                rows,
            )

        await self._database.transaction(work)
