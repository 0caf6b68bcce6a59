"""Runs and their stages in the database, and the lock that lets one process drive a run."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.types.json import Json

from distillery.api import MUTABLE, DistillationRun, canonical
from distillery.api.problems import InvalidRun, Problem, shown
from distillery.database.connection import Database, Row
from distillery.planning import StageId, StageState


class RunHeld(Exception):
    """Another process drives this run; the message names it."""


class UnknownRun(Exception):
    """No such run in this database; the message lists those there are."""


async def register(database: Database, run: DistillationRun, *, uid: str | None = None) -> int:
    """The run's id; the run is recorded if it is new.

    Args:
        database: where.
        run: the resource.
        uid: who the run is; None gives a new run one.

    Raises:
        InvalidRun: a run of this name exists with another uid, or with another specification, in fields that are
            immutable.
    """
    document = canonical(run)
    # a row that is older than the column uid takes the first that it is given
    await database.execute(
        """INSERT INTO run (key, document, uid) VALUES (%s, %s, coalesce(%s::uuid, gen_random_uuid()))
           ON CONFLICT (key) DO UPDATE SET uid = excluded.uid, uid_is_provisional = false
           WHERE run.uid_is_provisional AND %s""",
        run.key, Json(document), uid, uid is not None,
    )  # fmt: skip
    rows = await database.fetch("SELECT id, document, uid FROM run WHERE key = %s", run.key)
    if uid and str(rows[0]["uid"]) != uid:
        raise InvalidRun(
            [
                Problem(
                    "metadata.uid",
                    uid,
                    f"the database has the run {rows[0]['uid']} under this name, which was deleted or is on another "
                    "cluster: delete it there, give metadata.name another name, or name another database",
                )
            ],
            f"run {run.key}",
        )
    changed = list(_differences(rows[0]["document"]["spec"], document["spec"], "spec"))
    if changed:
        raise InvalidRun(
            [
                Problem(
                    path,
                    shown(new),
                    f"the run exists with {shown(old)} here, and its spec is immutable: "
                    "give metadata.name another name, or take this change back",
                )
                for path, old, new in changed
            ],
            f"run {run.key}",
        )
    return rows[0]["id"]


def _differences(old: Any, new: Any, path: str) -> list[tuple[str, Any, Any]]:
    if path.removeprefix("spec.") in MUTABLE:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [found for key in keys for found in _differences(old.get(key), new.get(key), f"{path}.{key}")]
    return [] if old == new else [(path, old, new)]


async def find(database: Database, name: str) -> Row:
    """The row of a run by ``name`` or ``namespace/name``. Raises :class:`UnknownRun`."""
    key = name if "/" in name else f"default/{name}"
    rows = await database.fetch("SELECT * FROM run WHERE key = %s", key)
    if not rows:
        known = [row["key"] for row in await database.fetch("SELECT key FROM run ORDER BY id")]
        raise UnknownRun(f"there is no run {key}; known: {', '.join(known) or 'none'}")
    return rows[0]


async def uid_of(database: Database, run_id: int) -> str:
    """The run's uid."""
    rows = await database.fetch("SELECT uid FROM run WHERE id = %s", run_id)
    return str(rows[0]["uid"])


class RunLock:
    """Held while a process drives a run. The server frees it when the process or its connection dies.

    The lock is held by a transaction that stays open. A pooler in transaction mode gives a session's lock to whoever
    comes next, so that two processes would drive one run; a transaction keeps its server connection. It has no
    snapshot between its statements and writes nothing, so it holds back no vacuum.

    Raises :class:`RunHeld` on entering where another process holds it.
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
            await self._connection.close()

    async def ensure(self) -> None:
        """Take the lock again where the connection was lost; does nothing while the server is away.

        Raises :class:`RunHeld` if someone else was quicker.
        """
        assert self._connection is not None
        try:
            await self._connection.execute("SELECT 1")
        except psycopg.Error:  # a transaction that the server ended counts as an internal error
            await self._connection.close()
            with contextlib.suppress(psycopg.OperationalError):
                await self._acquire()

    async def _acquire(self) -> None:
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
            cursor = await connection.execute("SELECT key, holder FROM run WHERE id = %s", (self._run_id,))
            row = await cursor.fetchone()
            await connection.close()
            raise RunHeld(f"run {row[0] if row else self._run_id} is driven by {(row and row[1]) or 'another process'}")
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since}"
        # by a connection of its own: the lock's transaction would keep the row locked
        async with await psycopg.AsyncConnection.connect(self._dsn, prepare_threshold=None) as other:
            await other.execute("UPDATE run SET holder = %s WHERE id = %s", (holder, self._run_id))


async def is_driven(database: Database, run_id: int) -> bool:
    """Whether a process holds the run's :class:`RunLock`."""
    rows = await database.fetch(
        """SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
           WHERE locktype = 'advisory' AND datname = current_database() AND granted
             AND classid = %s AND objid = 0 AND objsubid = 2""",  # two keys of four bytes
        run_id,
    )
    return bool(rows)


async def observe(database: Database, run_id: int) -> dict[StageId, StageState]:
    """How the run's stages stand."""
    return states_of(await stage_rows(database, run_id))


async def stage_rows(database: Database, run_id: int) -> list[Row]:
    """Every stage's row, in the order of their starts."""
    return await database.fetch("SELECT * FROM stage WHERE run_id = %s ORDER BY started_at", run_id)


def states_of(rows: Iterable[Row]) -> dict[StageId, StageState]:
    """The states that rows of the table ``stage`` tell."""
    return {
        StageId.parse(row["name"]): StageState(
            row["phase"], row["attempts"], row["permanent"], row["message"], row["result"]
        )
        for row in rows
    }


def recorded_results(rows: Iterable[Row]) -> dict[str, Row]:
    """The manifests that rows of the table ``stage`` hold, by stage."""
    return {row["name"]: row["result"] for row in rows if row["result"]}


async def begin_stage(database: Database, run_id: int, stage: StageId, attempt: int) -> None:
    """Record that an attempt at a stage started."""
    await database.execute(
        """INSERT INTO stage (run_id, name, phase, attempts) VALUES (%s, %s, 'running', %s)
           ON CONFLICT (run_id, name) DO UPDATE
           SET phase = 'running', attempts = excluded.attempts, message = '', permanent = false, finished_at = NULL""",
        run_id, str(stage), attempt,
    )  # fmt: skip


async def end_stage(database: Database, run_id: int, stage: StageId, state: StageState) -> None:
    """Record how an attempt at a stage ended."""
    await database.execute(
        """UPDATE stage SET phase = %s, permanent = %s, message = %s, result = %s, finished_at = now()
           WHERE run_id = %s AND name = %s""",
        state.phase, state.permanent, state.message, None if state.result is None else Json(dict(state.result)),
        run_id, str(stage),
    )  # fmt: skip


async def report_progress(database: Database, run_id: int, stage: StageId, *, done: int, total: int, unit: str) -> None:
    """Record a running stage's progress, for whoever watches."""
    await database.execute(
        """INSERT INTO stage (run_id, name, phase, done, total, unit) VALUES (%s, %s, 'running', %s, %s, %s)
           ON CONFLICT (run_id, name) DO UPDATE
           SET done = excluded.done, total = excluded.total, unit = excluded.unit""",
        run_id, str(stage), done, total, unit,
    )  # fmt: skip
