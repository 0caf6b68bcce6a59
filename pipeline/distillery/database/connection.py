"""A pool of connections, and the patience to outlive a restart of the server."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

Row = dict[str, Any]
T = TypeVar("T")

_log = logging.getLogger(__name__)

_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


async def _check(connection: AsyncConnection[Row]) -> None:
    """Find out before use whether a pooled connection is still good."""
    await connection.execute("")


class DatabaseAway(Exception):
    """The database could not be reached for longer than the patience allowed."""


def dsn_from_environment() -> str | None:
    """The connection string in ``$DISTILLERY_DATABASE``, or in the file that ``$DISTILLERY_DATABASE_FILE`` names."""
    if path := os.environ.get("DISTILLERY_DATABASE_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    return os.environ.get("DISTILLERY_DATABASE")


class Database:
    """Runs work in transactions; use as an async context manager.

    Args:
        dsn: libpq's connection string.
        patience: seconds to wait for a server that went away before giving up.
        size: the most connections held.
    """

    def __init__(self, dsn: str, *, patience: float = 600.0, size: int = 4) -> None:
        self.dsn = dsn
        self.patience = patience
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            dsn,
            connection_class=AsyncConnection[Row],
            kwargs={"row_factory": dict_row},
            min_size=1,
            max_size=size,
            timeout=10.0,
            reconnect_timeout=5.0,
            check=_check,
            open=False,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close(timeout=5.0)

    async def transaction(self, work: Callable[[AsyncConnection[Row]], Awaitable[T]]) -> T:
        """Run ``work`` in one transaction, again and again while the server is away.

        ``work`` may run more than once, and once more after a commit whose confirmation was lost: it must be
        idempotent. Raises :class:`DatabaseAway` when patience ends.
        """
        deadline = time.monotonic() + self.patience
        delay, told = 0.2, False
        while True:
            try:
                async with self._pool.connection() as connection:
                    result = await work(connection)
                if told:
                    _log.info("the database is back")
                return result
            except _AWAY as error:
                if time.monotonic() > deadline:
                    raise DatabaseAway(f"the database was away for {self.patience:.0f} s: {error}") from error
                if not told:
                    _log.warning("the database is away, waiting for it: %s", str(error).strip())
                    told = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def fetch(self, query: str, *parameters: Any) -> list[Row]:
        """All rows of a query that only reads."""

        async def work(connection: AsyncConnection[Row]) -> list[Row]:
            cursor = await connection.execute(query, parameters)  # type: ignore[arg-type]
            return await cursor.fetchall()

        return await self.transaction(work)

    async def execute(self, query: str, *parameters: Any) -> int:
        """Run one idempotent statement; the number of rows it touched."""

        async def work(connection: AsyncConnection[Row]) -> int:
            return (await connection.execute(query, parameters)).rowcount  # type: ignore[arg-type]

        return await self.transaction(work)
