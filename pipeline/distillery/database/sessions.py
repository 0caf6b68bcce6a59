"""The sessions of users: the recorders next to the gateways write them, and rounds import them.

Several recorders write the same session, in any order, and some more than once. The longest request of a session wins,
and so does the outcome that was reported last, which may arrive before the session's requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from distillery.core.contracts.capture import CapturedOutcome, CapturedRequest
from distillery.core.planner.plays import PRODUCTION
from distillery.database.connection import Database, Row
from distillery.database.episodes import EpisodeStore


@dataclass(frozen=True, slots=True)
class FailedSession:
    """A session that failed: its longest request with the answer, and what its client reported."""

    request: CapturedRequest
    task: str
    reward: float | None


# Everyone who may report an outcome may invent one. A session without an agent's reply and the observation after it
# teaches nothing, and is not counted: else repeated pairs of a request and an outcome would start a round.
_PENDING = "run_id = %s AND NOT success AND used_in_round IS NULL AND has_agent_reply"


class SessionStore:
    """The sessions of one run."""

    def __init__(self, database: Database, run_id: int) -> None:
        self._database = database
        self._run_id = run_id

    async def record(self, records: Sequence[CapturedRequest | CapturedOutcome]) -> None:
        """Store requests and outcomes. Idempotent."""

        async def work(connection: AsyncConnection[Row]) -> None:
            # always in one order: two recorders must not wait for each other
            for record in sorted(records, key=lambda record: record.session):
                await self._record(connection, record)

        await self._database.transaction(work)

    async def _record(self, connection: AsyncConnection[Row], record: CapturedRequest | CapturedOutcome) -> None:
        """Store a request or an outcome, and its session if it is new."""
        key = (self._run_id, record.session)
        await connection.execute(
            """INSERT INTO session (run_id, name, alias, started_at, updated_at) VALUES (%s, %s, %s, %s, %s)
               ON CONFLICT (run_id, name) DO UPDATE
               SET started_at = least(session.started_at, excluded.started_at),
                   updated_at = greatest(session.updated_at, excluded.updated_at)""",
            (*key, record.alias, record.time, record.time),
        )
        if isinstance(record, CapturedOutcome):
            await connection.execute(
                """UPDATE session SET success = %s, reward = %s, task = %s, outcome_reported_at = %s
                   WHERE (run_id, name) = (%s, %s)
                     AND (outcome_reported_at IS NULL OR outcome_reported_at <= %s)""",
                (record.success, record.reward, record.task, record.time, *key, record.time),
            )
            return
        turns = len(record.messages) + 1
        await connection.execute(
            """UPDATE session SET alias = %s, model = %s, messages = %s, answer = %s, turns = %s
               WHERE (run_id, name) = (%s, %s) AND turns <= %s""",
            (record.alias, record.model, Jsonb(list(record.messages)), record.answer, turns, *key, turns),
        )

    async def expire(self, *, days: int, max_sessions: int) -> int:
        """Delete sessions that are too old or too many, and the episodes of old ones; return how many sessions."""
        old = await self._database.execute(
            "DELETE FROM session WHERE run_id = %s AND updated_at < now() - make_interval(days => %s)",
            self._run_id, days,
        )  # fmt: skip
        excess = await self._database.execute(
            """DELETE FROM session WHERE run_id = %s AND name IN (
                   SELECT name FROM session WHERE run_id = %s ORDER BY updated_at DESC, name OFFSET %s)""",
            self._run_id, self._run_id, max_sessions,
        )  # fmt: skip
        await EpisodeStore(self._database, self._run_id).expire(arm=PRODUCTION, days=days)
        return old + excess

    async def count_pending_failures(self) -> int:
        """Return how many failed sessions wait for a round to learn from them."""
        rows = await self._database.fetch(f"SELECT count(*) AS n FROM session WHERE {_PENDING}", self._run_id)  # noqa: S608
        return rows[0]["n"]

    async def claim(self, round: int, *, max_sessions: int) -> list[FailedSession]:
        """Claim failures for a round, the oldest first, and return all that it has; no other round gets them."""
        claimed = await self._database.fetch(
            "SELECT count(*) AS n FROM session WHERE run_id = %s AND used_in_round = %s", self._run_id, round
        )
        await self._database.execute(
            f"""UPDATE session SET used_in_round = %s WHERE run_id = %s AND name IN (
                    SELECT name FROM session WHERE {_PENDING} ORDER BY updated_at, name LIMIT %s)""",  # noqa: S608
            round, self._run_id, self._run_id, max(0, max_sessions - claimed[0]["n"]),
        )  # fmt: skip
        rows = await self._database.fetch(
            "SELECT * FROM session WHERE run_id = %s AND used_in_round = %s ORDER BY updated_at, name",
            self._run_id, round,
        )  # fmt: skip
        return [_read_failed_session(row) for row in rows]


def _read_failed_session(row: Row) -> FailedSession:
    """Return the session that a row holds."""
    request = CapturedRequest(
        row["name"], row["alias"], row["model"], tuple(row["messages"]), row["answer"], row["updated_at"]
    )
    return FailedSession(request, row["task"], row["reward"])
