"""The Job of the operator that stores the history of what a run served.

    python -m distillery.database.served

DISTILLERY_DATABASE_URL       connection string, or
DISTILLERY_DATABASE_URL_FILE  a file that holds it
DISTILLERY_RUN                NAMESPACE/NAME
DISTILLERY_SERVING_HISTORY    status.serving.history: [{"time": ..., "student": "base", "round": 0, "reason": ...}]
"""

from __future__ import annotations

import asyncio
import os
import sys

from distillery.core.contracts.serving_history import from_json
from distillery.database.connection import Database, dsn_from_environment
from distillery.database.migrate import migrate
from distillery.database.runs import RunStore
from distillery.database.serving_history import ServingHistoryStore


async def _store(dsn: str, run: str, document: str) -> None:
    """Store the history of a run. Raises :class:`UnknownRun`, and as :class:`Database` does."""
    async with Database(dsn, size=1) as database:
        run_id = (await RunStore(database).find(run))["id"]  # waits for a server that is away
        await asyncio.to_thread(migrate, dsn)  # a run that ended before this version starts no other Job for it
        await ServingHistoryStore(database, run_id).add(from_json(document))


def main() -> None:
    """Store the history; exit with code 78 where a variable is missing."""
    dsn, run = dsn_from_environment(), os.environ.get("DISTILLERY_RUN")
    document = os.environ.get("DISTILLERY_SERVING_HISTORY")
    if not (dsn and run and document):
        names = "DISTILLERY_DATABASE_URL or DISTILLERY_DATABASE_URL_FILE, DISTILLERY_RUN and DISTILLERY_SERVING_HISTORY"
        print(f"set {names}", file=sys.stderr)
        sys.exit(78)
    asyncio.run(_store(dsn, run, document))


if __name__ == "__main__":
    main()
