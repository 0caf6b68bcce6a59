"""The history of what was served, copied into the run's database: a run's status holds the newest entries only.

    python -m distillery.database.served

DISTILLERY_DATABASE_URL       connection string, or
DISTILLERY_DATABASE_URL_FILE  a file that holds it
DISTILLERY_RUN                NAMESPACE/NAME
DISTILLERY_SERVING_HISTORY    status.serving.history: [{"time": ..., "student": "base", "round": 0, "reason": ...}]
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection

from distillery.database.connection import Database, Row, dsn_from_environment
from distillery.database.migrate import migrate
from distillery.database.runs import find


async def record_served(database: Database, run_id: int, history: Sequence[Mapping[str, Any]]) -> None:
    """Keep what was served when, as the status of a run tells it. Idempotent."""

    async def work(connection: AsyncConnection[Row]) -> None:
        await connection.cursor().executemany(
            """INSERT INTO serving_history (run_id, since, student, round, reason) VALUES (%s, %s, %s, %s, %s)
               ON CONFLICT DO NOTHING""",
            [(run_id, e["time"], e["student"], e["round"], e["reason"].replace("\0", "")) for e in history],
        )

    await database.transaction(work)


async def _record(dsn: str, run: str, history: Sequence[Mapping[str, Any]]) -> None:
    async with Database(dsn, size=1) as database:
        run_id = (await find(database, run))["id"]  # waits for a server that is away
        await asyncio.to_thread(migrate, dsn)  # a run that ended before this version starts no other Job for it
        await record_served(database, run_id, history)


def main() -> None:
    """Record; exit code 78 where a variable is missing."""
    dsn, run, history = (
        dsn_from_environment(),
        os.environ.get("DISTILLERY_RUN"),
        os.environ.get("DISTILLERY_SERVING_HISTORY"),
    )
    if not (dsn and run and history):
        names = "DISTILLERY_DATABASE_URL or DISTILLERY_DATABASE_URL_FILE, DISTILLERY_RUN and DISTILLERY_SERVING_HISTORY"
        print(f"set {names}", file=sys.stderr)
        sys.exit(78)
    asyncio.run(_record(dsn, run, json.loads(history)))


if __name__ == "__main__":
    main()
