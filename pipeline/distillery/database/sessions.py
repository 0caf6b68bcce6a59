"""The sessions of users: the recorders next to the gateways write them, and rounds import them.

Several recorders write the same session, in any order, and some more than once: the longest request of a session wins,
and so does the outcome that was reported last, which may arrive before the session's requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from distillery.core.planner.graph import LIVE
from distillery.database.connection import Database, Row
from distillery.database.episodes import write_turns
from distillery.episodes import Episode


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request of a session, and its answer.

    Attributes:
        session: as the client names it.
        alias: the model's name for clients.
        model: which student answered.
        messages: of the request, as OpenAI's API has them.
        answer: the model's words.
        time: when it was answered.
    """

    session: str
    alias: str
    model: str
    messages: tuple[Mapping[str, Any], ...]
    answer: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a session, as its client reports it.

    Attributes:
        session: the session's name, chosen by the client.
        alias: the model's name for clients.
        success: whether the task was done.
        reward: 0 to 1, if the client knows one.
        task: the task, in the client's words.
        time: when the outcome was reported.
    """

    session: str
    alias: str
    success: bool
    reward: float | None
    task: str
    time: datetime


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that failed: its longest request with the answer, and what was said of it."""

    exchange: Exchange
    task: str
    reward: float | None


async def record(database: Database, run_id: int, heard: Sequence[Exchange | Outcome]) -> None:
    """Keep what was heard. Idempotent."""

    async def work(connection: AsyncConnection[Row]) -> None:
        for one in sorted(heard, key=lambda one: one.session):  # always in one order: recorders must not wait in a ring
            key = (run_id, one.session)
            await connection.execute(
                """INSERT INTO session (run_id, name, alias, started_at, updated_at) VALUES (%s, %s, %s, %s, %s)
                   ON CONFLICT (run_id, name) DO UPDATE
                   SET started_at = least(session.started_at, excluded.started_at),
                       updated_at = greatest(session.updated_at, excluded.updated_at)""",
                (*key, one.alias, one.time, one.time),
            )
            if isinstance(one, Outcome):
                await connection.execute(
                    """UPDATE session SET success = %s, reward = %s, task = %s, outcome_reported_at = %s
                       WHERE (run_id, name) = (%s, %s)
                         AND (outcome_reported_at IS NULL OR outcome_reported_at <= %s)""",
                    (one.success, one.reward, one.task, one.time, *key, one.time),
                )
                continue
            turns = len(one.messages) + 1
            await connection.execute(
                """UPDATE session SET alias = %s, model = %s, messages = %s, answer = %s, turns = %s
                   WHERE (run_id, name) = (%s, %s) AND turns <= %s""",
                (one.alias, one.model, Jsonb(list(one.messages)), one.answer, turns, *key, turns),
            )

    await database.transaction(work)


async def expire(database: Database, run_id: int, *, days: int, most: int) -> int:
    """Delete sessions that are too old or too many, and what rounds took over from old ones; return how many."""
    old = await database.execute(
        "DELETE FROM session WHERE run_id = %s AND updated_at < now() - make_interval(days => %s)", run_id, days
    )
    many = await database.execute(
        """DELETE FROM session WHERE run_id = %s AND name IN (
               SELECT name FROM session WHERE run_id = %s ORDER BY updated_at DESC, name OFFSET %s)""",
        run_id, run_id, most,
    )  # fmt: skip
    await database.execute(
        "DELETE FROM episode WHERE run_id = %s AND arm = %s AND finished_at < now() - make_interval(days => %s)",
        run_id, LIVE, days,
    )  # fmt: skip
    return old + many


# Whoever may tell an outcome may make one up. What shows no reply and what came of it teaches nothing, and counts as
# nothing: else a request and an outcome, as often as it takes, would start a round.
_TO_LEARN_FROM = "run_id = %s AND NOT success AND used_in_round IS NULL AND has_agent_reply"


async def gathered(database: Database, run_id: int) -> int:
    """Count the failed sessions that a round can learn from and none has yet."""
    rows = await database.fetch(f"SELECT count(*) AS n FROM session WHERE {_TO_LEARN_FROM}", run_id)  # noqa: S608
    return rows[0]["n"]


async def claim(database: Database, run_id: int, round: int, *, most: int) -> list[LiveSession]:
    """Claim up to ``most`` failures for a round to learn from, the oldest first. No other round gets them."""
    taken = await database.fetch(
        "SELECT count(*) AS n FROM session WHERE run_id = %s AND used_in_round = %s", run_id, round
    )
    await database.execute(
        f"""UPDATE session SET used_in_round = %s WHERE run_id = %s AND name IN (
                SELECT name FROM session WHERE {_TO_LEARN_FROM} ORDER BY updated_at, name LIMIT %s)""",  # noqa: S608
        round, run_id, run_id, max(0, most - taken[0]["n"]),
    )  # fmt: skip
    rows = await database.fetch(
        "SELECT * FROM session WHERE run_id = %s AND used_in_round = %s ORDER BY updated_at, name",
        run_id, round,
    )  # fmt: skip
    return [
        LiveSession(
            Exchange(row["name"], row["alias"], row["model"], tuple(row["messages"]), row["answer"],
                     row["updated_at"]),
            row["task"],
            row["reward"],
        )
        for row in rows
    ]  # fmt: skip


async def add_episodes(
    database: Database, run_id: int, round: int, episodes: Sequence[tuple[Episode, datetime]]
) -> None:
    """Keep users' failures, with the time of each, among the run's episodes; those that are there stay as they are."""

    async def work(connection: AsyncConnection[Row]) -> None:
        for episode, time in episodes:
            cursor = await connection.execute(
                """INSERT INTO episode (run_id, round, arm, task_id, split, category, goal, seed, phase, success, score,
                                        stop_reason, steps, turns, invalid_actions, examples, initial_observation,
                                        prompt_prefix, prompt_spans, started_at, finished_at)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'finished', %s, %s, %s, %s, %s, %s, 0, %s, %s, '{}', %s, %s)
                   ON CONFLICT DO NOTHING RETURNING id""",
                (
                    run_id, round, episode.arm, episode.task.id, episode.task.split, episode.task.category,
                    episode.task.goal, episode.seed, episode.success, episode.score, episode.stop,
                    sum(turn.action is not None for turn in episode.turns), len(episode.turns),
                    episode.invalid_actions, episode.opening, Jsonb(list(episode.head.messages)), time, time,
                ),
            )  # fmt: skip
            if row := await cursor.fetchone():
                await write_turns(connection, row["id"], episode.turns)

    await database.transaction(work)
