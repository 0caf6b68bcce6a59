"""Runs in the database, and the lock that lets one process drive a run."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.types.json import Json

from distillery.core.api import DistillationRun, canonical, parse, parse_known
from distillery.core.api.learned import GROWING, learned_changes
from distillery.core.api.problems import InvalidRun, Problem, format_value
from distillery.database.connection import Database, Row


class RunLocked(Exception):
    """Another process drives this run; the message names it."""


class UnknownRun(Exception):
    """No such run in this database; the message lists those there are."""


class RunStore:
    """The runs of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, run: DistillationRun, *, uid: str | None = None) -> int:
        """Record a run or the changes of its specification, and return its id.

        Every field can change while no stage but ``prepare`` has started; then ``prepare`` starts again. Later only
        fields that do not decide what is learned can change, and the number of held-out tasks can grow. The stored
        document follows every change. On a cluster, stages of one run may have images of two versions: an older one
        ignores fields that it does not know in a document that a newer one stored.

        Args:
            run: the resource.
            uid: the uid of the run; None for the run that has its name. An earlier run of the name is renamed to
                ``namespace/name@uid`` and keeps its rows.

        Raises:
            InvalidRun: a run of this name exists that would learn something else, or that this version can't read; or
                another run took the name of this one.
            RunLocked: the run that has the name is running.
        """
        document = canonical(run)

        async def work(connection: AsyncConnection[Row]) -> int:
            row = await _row_of(connection, run, document, uid)
            if row["document"] == document:
                return row["id"]
            begun = await connection.execute(
                "SELECT 1 FROM stage WHERE run_id = %s AND name <> 'prepare'", (row["id"],)
            )
            problems = _changes(row["document"], run, parse if uid is None else parse_known)
            if uid is not None and {problem.path for problem in problems} == {f"spec.{path}" for path in GROWING}:
                return row["id"]  # a stage that was started before a number grew
            if problems and await begun.fetchone():
                raise InvalidRun(problems, f"run {run.key}")
            if problems:
                await connection.execute("DELETE FROM stage WHERE run_id = %s", (row["id"],))
            await connection.execute("UPDATE run SET document = %s WHERE id = %s", (Json(document), row["id"]))
            return row["id"]

        return await self._database.transaction(work)

    async def enter(self, run: DistillationRun) -> int:
        """Record a run unless one of its name is recorded, and return the id, as a :class:`RunLock` needs it."""
        document = canonical(run)

        async def work(connection: AsyncConnection[Row]) -> int:
            return (await _row_of(connection, run, document, None))["id"]

        return await self._database.transaction(work)

    async def find(self, name: str) -> Row:
        """Return the row of a run by ``name`` or ``namespace/name``. Raises :class:`UnknownRun`."""
        key = name if "/" in name else f"default/{name}"
        rows = await self._database.fetch("SELECT * FROM run WHERE key = %s", key)
        if not rows:
            existing = [row["key"] for row in await self.read_all()]
            raise UnknownRun(f"there is no run {key}; known: {', '.join(existing) or 'none'}")
        return rows[0]

    async def read_all(self) -> list[Row]:
        """Return the rows of all runs, in the order in which they were recorded."""
        return await self._database.fetch("SELECT * FROM run ORDER BY id")

    async def read_uid(self, run_id: int) -> str:
        """Return the run's uid."""
        rows = await self._database.fetch("SELECT uid FROM run WHERE id = %s", run_id)
        return str(rows[0]["uid"])

    async def is_driven(self, run_id: int) -> bool:
        """Return whether a process holds the run's :class:`RunLock`."""
        return bool(await self._database.fetch(_IS_DRIVEN, run_id))

    async def count_driven(self, host: str) -> int:
        """Return how many runs of this database the processes of a host drive."""
        rows = await self._database.fetch(
            """SELECT count(DISTINCT run.id) AS n FROM run
               JOIN pg_locks ON classid::bigint = run.id
               JOIN pg_database ON pg_database.oid = pg_locks.database
               WHERE locktype = 'advisory' AND datname = current_database() AND granted AND objid = 0 AND objsubid = 2
                 AND lock_host = %s""",
            host,
        )
        return rows[0]["n"]

    async def count_rows(self, run_id: int, key: str) -> tuple[int, int]:
        """Return how many episodes and how many hints a run has."""
        rows = await self._database.fetch(
            """SELECT (SELECT count(*) FROM episode WHERE run_id = %s) AS episodes,
                      (SELECT count(*) FROM hint WHERE bank = %s) AS hints""",
            run_id, key,
        )  # fmt: skip
        return rows[0]["episodes"], rows[0]["hints"]

    async def delete(self, run_id: int) -> None:
        """Delete all that the database has of a run. Call it while holding the run's lock."""

        async def work(connection: AsyncConnection[Row]) -> None:
            await connection.execute("DELETE FROM hint USING run WHERE bank = key AND run.id = %s", (run_id,))
            await connection.execute("DELETE FROM run WHERE id = %s", (run_id,))

        await self._database.transaction(work)


async def _row_of(
    connection: AsyncConnection[Row], run: DistillationRun, document: Mapping[str, Any], uid: str | None
) -> Row:
    """Return the row of a run, locked; insert it if it is not there."""
    if uid is not None:
        await _take_name(connection, run.key, uid)
    await connection.execute(
        """INSERT INTO run (key, document, uid) VALUES (%s, %s, coalesce(%s::uuid, gen_random_uuid()))
           ON CONFLICT (key) DO NOTHING""",
        (run.key, Json(document), uid),
    )
    cursor = await connection.execute("SELECT id, document FROM run WHERE key = %s FOR UPDATE", (run.key,))
    row = await cursor.fetchone()
    assert row is not None, "nobody deletes a row between two statements that both wait for it"
    return row


async def _take_name(connection: AsyncConnection[Row], key: str, uid: str) -> None:
    """Take the name from an earlier run, if one has it."""
    cursor = await connection.execute(
        "SELECT id, uid::text, uid_is_provisional, lock_holder FROM run WHERE key = %s FOR UPDATE", (key,)
    )
    row = await cursor.fetchone()
    if row is None or row["uid"] == uid:
        return
    if row["uid_is_provisional"]:  # the row is older than the column: the first run that comes is its run
        await connection.execute("UPDATE run SET uid = %s, uid_is_provisional = false WHERE id = %s", (uid, row["id"]))
        return
    cursor = await connection.execute("SELECT 1 FROM run WHERE key = %s", (f"{key}@{uid}",))
    if await cursor.fetchone():
        fix = "delete this one, or give metadata.name another name"
        raise InvalidRun([Problem("metadata.uid", uid, f"the run {row['uid']} took the name: {fix}")], f"run {key}")
    cursor = await connection.execute(_IS_DRIVEN, (row["id"],))
    if await cursor.fetchone():
        raise RunLocked(f"run {key} is already running: {row['lock_holder']}")
    former = f"{key}@{row['uid']}"
    await connection.execute("UPDATE hint SET bank = %s WHERE bank = %s", (former, key))
    await connection.execute("UPDATE run SET key = %s WHERE id = %s", (former, row["id"]))


def _changes(
    stored: Mapping[str, Any], run: DistillationRun, read: Callable[[Mapping[str, Any]], DistillationRun]
) -> list[Problem]:
    """Return why a run can't replace a stored document, which ``read`` parses; nothing if both learn the same."""
    fix = f"delete the run (distillery delete {run.key}), or give metadata.name another name"
    try:
        before = read(stored)
    except InvalidRun as error:
        reason = f"the run exists with this here, which this version of Distillery does not accept: {fix}"
        return [Problem(problem.path, problem.value, reason) for problem in error.problems]
    kinds = {f"spec.{path}": "and it can only grow" for path in GROWING}
    return [
        Problem(
            change.path,
            format_value(change.new),
            f"the run exists with {format_value(change.old)} here, "
            f"{kinds.get(change.path, 'which decides what it learns')}: {fix}, or undo this change",
        )
        for change in learned_changes(before, run)
    ]


class RunLock:
    """A lock that is held while a process drives a run. The server frees it when the process or its connection dies.

    The lock is held by a transaction that stays open. A pooler in transaction mode gives a session's lock to whichever
    comes next, so that two processes would drive one run; a transaction keeps its server connection. It has no
    snapshot between its statements and writes nothing, so it holds back no vacuum.

    Raises :class:`RunLocked` on entering where another process holds it.
    """

    def __init__(self, dsn: str, run_id: int) -> None:
        self._dsn = dsn
        self._run_id = run_id
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def __aenter__(self) -> Self:
        await self._acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection:
            with contextlib.suppress(psycopg.OperationalError):  # the connection was lost, and the lock with it
                await self._connection.rollback()  # the server frees the lock some time after a connection was closed
            await self._connection.close()

    async def ensure(self) -> None:
        """Take the lock again where the connection was lost; does nothing while the server is away.

        Raises :class:`RunLocked` if someone else was quicker.
        """
        assert self._connection is not None
        try:
            await self._connection.execute("SELECT 1")
        except psycopg.Error:  # a transaction that the server ended counts as an internal error
            await self._connection.close()
            with contextlib.suppress(psycopg.OperationalError):
                await self._acquire()

    async def _acquire(self) -> None:
        """Take the lock on a connection of its own, and record the holder. Raises :class:`RunLocked`."""
        self._connection = connection = await psycopg.AsyncConnection.connect(self._dsn, prepare_threshold=None)
        # the limits that a server may set on transactions such as this one; the newer one is unknown to Postgres 16
        await connection.execute(
            """SELECT set_config(name, '0', true) FROM pg_settings
               WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"""
        )
        # a literal, for the simple protocol: the portal of a statement with parameters would keep its snapshot
        cursor = await connection.execute(sql.SQL("SELECT pg_try_advisory_xact_lock({}, 0)").format(self._run_id))
        row = await cursor.fetchone()
        if not (row and row[0]):
            cursor = await connection.execute("SELECT key, lock_holder FROM run WHERE id = %s", (self._run_id,))
            row = await cursor.fetchone()
            await connection.close()
            raise RunLocked(
                f"run {row[0] if row else self._run_id} is already running: {(row and row[1]) or 'another process'}"
            )
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        host = socket.gethostname()
        holder = f"process {os.getpid()} on {host} since {since}"
        # by a connection of its own: the lock's transaction would keep the row locked
        async with await psycopg.AsyncConnection.connect(self._dsn, prepare_threshold=None) as other:
            await other.execute(
                "UPDATE run SET lock_holder = %s, lock_host = %s WHERE id = %s", (holder, host, self._run_id)
            )


# Two keys of four bytes are of subtype 2.
_IS_DRIVEN = """SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
                WHERE locktype = 'advisory' AND datname = current_database() AND granted
                  AND classid = %s AND objid = 0 AND objsubid = 2"""
