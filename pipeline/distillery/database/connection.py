"""A pool of connections that waits for a server that restarts, and the errors of a database."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from distillery.core.settings import read_secret

Row = dict[str, Any]
"""A row of a table or of a query, by the names of its columns."""

DatabaseError = psycopg.Error
"""Any error of the server, of the connection or of a statement."""

DataError = psycopg.DataError
"""The server refuses a value; another try with the same value fails, too."""

ConnectionFailed = psycopg.OperationalError
"""The server is away or refuses the connection."""

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MAX_POOL_WAIT_SECONDS = 10.0

# SQLSTATEs of errors that may pass: the same work is tried again. All other errors fail immediately with the server's
# message: a refused login (28), a database that is not there (3D), a row or an index entry that is too large (54), a
# canceled statement (57014), an I/O error (58), and all errors in statements or data.
_TRANSIENT = (
    "08",  # the connection broke
    "25006",  # read-only: a replica until it is promoted, or a managed server whose disk is full
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53100",  # disk full: the volume may grow, or WAL may be recycled; the warning and the last error name it
    "53200",  # out of memory
    "53300",  # too many connections
    "55P03",  # a lock was not available in the time that the server allows
    "57P01",  # shutdown
    "57P02",  # crash
    "57P03",  # starting up or shutting down
    "57P05",  # an idle session was ended
)

# libpq gives no SQLSTATE for a connection that the server refuses, only a text. Where the server writes another
# language, the refusal is found when patience ends.
_REFUSAL = re.compile(
    r"password|authentication|pg_hba\.conf|(role|database) .* does not exist|permission denied|no such (database|user)",
    re.IGNORECASE,
)


async def _check(connection: AsyncConnection[Row]) -> None:
    """Check before use that a pooled connection still works; raises psycopg.Error where it does not."""
    await connection.execute("")


class DatabaseAway(Exception):
    """The database could not be reached for longer than the patience allowed."""


class DatabaseRefused(Exception):
    """The server can't be used as it is, and waiting does not help; the message names the fix."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}; correct DISTILLERY_DATABASE_URL (on a cluster: the Secret that spec.database.dsnSecretRef "
            "names)"
        )


def dsn_from_environment() -> str | None:
    """Return ``$DISTILLERY_DATABASE_URL``, or the content of the file ``$DISTILLERY_DATABASE_URL_FILE``."""
    return read_secret("DISTILLERY_DATABASE_URL")


class Database:
    """A database that runs work in transactions; use as an async context manager.

    Args:
        dsn: libpq's connection string.
        patience: seconds to wait for a server that went away before giving up.
        size: the maximum number of connections.
    """

    def __init__(self, dsn: str, *, patience: float = 600.0, size: int = 4) -> None:
        self.dsn = dsn
        self.patience = patience
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            dsn,
            connection_class=AsyncConnection[Row],
            # a statement that is prepared in one session is unknown in the next one that a transaction pooler gives
            kwargs={"row_factory": dict_row, "prepare_threshold": None},
            min_size=1,
            max_size=size,
            timeout=min(_MAX_POOL_WAIT_SECONDS, max(1.0, patience)),
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
        idempotent.

        Raises:
            DatabaseAway: patience ended.
            DatabaseRefused: the server does not let us in.
            psycopg.Error: any other error that waiting does not cure.
        """
        deadline = time.monotonic() + self.patience
        delay, is_logged = 0.2, False
        while True:
            try:
                async with self._pool.connection() as connection:
                    result = await work(connection)
                if is_logged:
                    _log.info("the database is back")
                return result
            except (psycopg.Error, PoolTimeout) as error:
                reason = await self._connection_error() or error if isinstance(error, PoolTimeout) else error
                if not is_transient(reason):
                    raise reason from None
                if time.monotonic() > deadline:
                    raise DatabaseAway(
                        f"the database was away for {self.patience:.0f} s: {_one_line(reason)}"
                    ) from error
                if not is_logged:
                    _log.warning("the database is away, waiting for it: %s", _one_line(reason))
                    is_logged = True
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)

    async def _connection_error(self) -> psycopg.Error | None:
        """Return why a connection fails, which the pool only logs; None if it does not.

        Raises:
            DatabaseRefused: the reason stays.
        """
        try:
            async with await AsyncConnection.connect(self.dsn, connect_timeout=5):
                return None  # all connections were in use
        except psycopg.Error as error:
            if refused := refusal_of(error):
                raise refused from None
            return error

    async def fetch(self, query: str, *parameters: Any) -> list[Row]:
        """Return all rows of a query that only reads."""

        async def work(connection: AsyncConnection[Row]) -> list[Row]:
            cursor = await connection.execute(query, parameters)  # type: ignore[arg-type]
            return await cursor.fetchall()

        return await self.transaction(work)

    async def execute(self, query: str, *parameters: Any) -> int:
        """Run one idempotent statement, and return the number of rows it touched."""

        async def work(connection: AsyncConnection[Row]) -> int:
            return (await connection.execute(query, parameters)).rowcount  # type: ignore[arg-type]

        return await self.transaction(work)


def is_transient(error: Exception) -> bool:
    """Return whether an error may pass with time: the server is away, busy or full."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return error.sqlstate.startswith(_TRANSIENT)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeout)


def refusal_of(error: psycopg.Error) -> DatabaseRefused | None:
    """Return why a connection failed, if the reason stays: its string, its login, or rights."""
    if isinstance(error, psycopg.ProgrammingError) and not error.sqlstate:
        # libpq's message quotes the string, and with it the password
        return DatabaseRefused("the database's connection string is not one: write postgresql://user@host:5432/name")
    if not is_transient(error) or _REFUSAL.search(str(error)):
        return DatabaseRefused(f"the database refuses the connection: {_one_line(error)}")
    return None


def _one_line(error: BaseException | str) -> str:
    """Return a message without line breaks."""
    return " ".join(str(error).split())
