"""The queue of episodes: enqueued once, leased to workers, finished once.

A worker leases episodes with ``SKIP LOCKED``, renews its leases while it plays, and finishes each in one transaction
under the lease's number. A worker whose lease expired can't finish an episode that another leased since. So every
(round, arm, task, seed) has exactly one counted episode, whichever worker dies at whatever time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from distillery.database.connection import Database, Row
from distillery.database.episodes import task_of, write_turns
from distillery.environments.base import Task
from distillery.episodes import Episode

MAX_LEASES = 20
"""A task whose workers died this often is taken for the cause.

Deaths are the leases that neither a release nor a failure of the environment accounts for: ``lease - failures``.
"""


@dataclass(frozen=True, slots=True)
class EpisodeRequest:
    """An episode to be played.

    Attributes:
        task: what to play.
        arm: in which arm.
        seed: tells repeated plays of a task apart.
        temperature: of sampling.
        priority: the highest is leased first.
        hint_ids: of the hints.
        hints: their texts.
    """

    task: Task
    arm: str
    seed: int = 0
    temperature: float = 0.0
    priority: float = 0.0
    hint_ids: tuple[int, ...] = ()
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """An episode that this worker may play until the lease runs out."""

    episode_id: int
    number: int
    task: Task
    arm: str
    seed: int
    hint_ids: tuple[int, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that plays episodes.

    Attributes:
        name: unique among all processes that ever work on the run.
        lease_seconds: how long its leases last unless it renews them.
    """

    name: str
    lease_seconds: int


class EpisodeQueue:
    """The episodes of one stage, as one worker leases them.

    Args:
        database: with the schema in place.
        run_id: the run.
        round: of the stage.
        arms: of the stage.
        worker: leases and finishes episodes.
    """

    def __init__(self, database: Database, run_id: int, *, round: int, arms: Sequence[str], worker: Worker) -> None:
        self._database = database
        self._scope = (run_id, round, list(arms))
        self._worker = worker.name
        self._seconds = worker.lease_seconds

    async def enqueue(self, requests: Iterable[EpisodeRequest], *, player: str = "") -> None:
        """Add episodes; those that are there already stay as they are.

        A greedy episode that the run has played before is finished at once, as a copy: the same player has read the
        same hints at the same task.

        Args:
            requests: what to play.
            player: the model by its weights; empty if they are not known, so that nothing is copied.
        """
        run_id, round_, _ = self._scope
        rows = [
            (run_id, round_, r.arm, r.task.id, r.task.split, r.task.category, r.task.goal, r.seed, r.priority,
             list(r.hint_ids), list(r.hints), player, r.temperature)
            for r in requests
        ]  # fmt: skip

        async def work(connection: AsyncConnection[Row]) -> None:
            await connection.cursor().executemany(
                """INSERT INTO episode
                   (run_id, round, arm, task_id, split, category, goal, seed, priority, hint_ids, hints, player,
                    temperature)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
                rows,
            )
            if player:
                await self._copy(connection, player)

        await self._database.transaction(work)

    async def _copy(self, connection: AsyncConnection[Row], player: str) -> None:
        """Finish waiting greedy episodes that the player has played before, hints and all."""
        cursor = await connection.execute(
            """WITH known AS (
                   SELECT DISTINCT ON (new.id) new.id, old.id AS source
                   FROM episode AS new JOIN episode AS old USING (run_id, task_id, player, temperature, hints)
                   WHERE new.run_id = %s AND new.round = %s AND new.arm = ANY(%s) AND new.phase = 'waiting'
                     AND new.lease = 0 AND player = %s AND temperature = 0 AND old.phase = 'finished'
                     AND old.copied_from IS NULL AND old.stop_reason NOT IN ('broken', 'refused')
                   ORDER BY new.id, old.id)
               UPDATE episode AS new
               SET phase = 'finished', copied_from = old.id, success = old.success, score = old.score,
                   stop_reason = old.stop_reason, error = old.error, steps = old.steps, turns = old.turns,
                   invalid_actions = old.invalid_actions, prompt_tokens = old.prompt_tokens,
                   completion_tokens = old.completion_tokens, cached_tokens = old.cached_tokens,
                   examples = old.examples, initial_observation = old.initial_observation,
                   prompt_prefix = old.prompt_prefix, prompt_spans = old.prompt_spans, cut_replies = old.cut_replies,
                   started_at = old.started_at, finished_at = now()
               FROM known JOIN episode AS old ON old.id = known.source
               WHERE new.id = known.id AND new.phase = 'waiting'
               RETURNING new.id""",
            (*self._scope, player),
        )
        copies = [row["id"] for row in await cursor.fetchall()]
        await connection.execute(
            """INSERT INTO turn (episode_id, index, reply, action, observation, valid, first_turn, prompt_tokens,
                                 completion_tokens, cached_tokens, seconds, finish_reason)
               SELECT episode.id, index, reply, action, observation, valid, first_turn, turn.prompt_tokens,
                      turn.completion_tokens, turn.cached_tokens, seconds, finish_reason
               FROM episode JOIN turn ON turn.episode_id = copied_from WHERE episode.id = ANY(%s)""",
            (copies,),
        )

    async def lease(self, count: int) -> list[Lease]:
        """Lease up to ``count`` episodes that nobody plays, the longest expected first."""
        rows = await self._database.fetch(
            """UPDATE episode SET phase = 'leased', worker = %s, lease = lease + 1, started_at = now(),
                      lease_until = now() + make_interval(secs => %s)
               WHERE id IN (
                   SELECT id FROM episode
                   WHERE run_id = %s AND round = %s AND arm = ANY(%s) AND lease - failures < %s
                     AND (phase = 'waiting' OR phase = 'leased' AND lease_until < now())
                   ORDER BY priority DESC, id LIMIT %s FOR UPDATE SKIP LOCKED)
               RETURNING *""",
            self._worker, self._seconds, *self._scope, MAX_LEASES, count,
        )  # fmt: skip
        return [
            Lease(row["id"], row["lease"], task_of(row), row["arm"], row["seed"], tuple(row["hint_ids"]),
                  tuple(row["hints"]))
            for row in sorted(rows, key=lambda row: (-row["priority"], row["id"]))
        ]  # fmt: skip

    async def renew(self, leases: Iterable[Lease]) -> set[int]:
        """Extend leases, and return the ids of the episodes that are still this worker's."""
        leased = [(lease.episode_id, lease.number) for lease in leases]
        if not leased:
            return set()
        rows = await self._database.fetch(
            """UPDATE episode SET lease_until = now() + make_interval(secs => %s)
               FROM unnest(%s::bigint[], %s::integer[]) AS held (id, number)
               WHERE episode.id = held.id AND lease = held.number AND phase = 'leased' AND worker = %s
               RETURNING episode.id""",
            self._seconds, [i for i, _ in leased], [n for _, n in leased], self._worker,
        )  # fmt: skip
        return {row["id"] for row in rows}

    async def finish(self, lease: Lease, episode: Episode) -> bool:
        """Store an episode, once. False if the lease was lost meanwhile: then nothing is stored."""

        async def work(connection: AsyncConnection[Row]) -> bool:
            turns = episode.turns
            cached = [turn.cached_tokens for turn in turns if turn.cached_tokens is not None]
            cursor = await connection.execute(
                """UPDATE episode SET phase = 'finished', finished_at = now(), success = %s, score = %s,
                          stop_reason = %s, steps = %s, turns = %s, invalid_actions = %s, prompt_tokens = %s,
                          completion_tokens = %s, cached_tokens = %s, examples = %s, initial_observation = %s,
                          prompt_prefix = %s, prompt_spans = %s, error = coalesce(%s, error), cut_replies = %s
                   WHERE id = %s AND lease = %s AND phase = 'leased' AND worker = %s""",
                (
                    episode.success, episode.score, episode.stop,
                    sum(turn.action is not None for turn in turns), len(turns), episode.invalid_actions,
                    sum(turn.prompt_tokens for turn in turns), sum(turn.completion_tokens for turn in turns),
                    sum(cached) if len(cached) == len(turns) else None, episode.examples, episode.initial_observation,
                    Jsonb(list(episode.prompt_prefix.messages)),
                    Jsonb({name: [s.message, s.start, s.end] for name, s in episode.prompt_prefix.spans.items()}),
                    episode.error or None, sum(turn.cut for turn in turns),
                    lease.episode_id, lease.number, self._worker,
                ),
            )  # fmt: skip
            if cursor.rowcount == 0:
                return await self._is_finished_under(connection, lease)
            await write_turns(connection, lease.episode_id, turns)
            return True

        return await self._database.transaction(work)

    async def _is_finished_under(self, connection: AsyncConnection[Row], lease: Lease) -> bool:
        """Return whether an earlier try at this ``finish`` was committed though its confirmation was lost."""
        cursor = await connection.execute(
            "SELECT 1 FROM episode WHERE id = %s AND lease = %s AND phase = 'finished' AND worker = %s",
            (lease.episode_id, lease.number, self._worker),
        )
        return await cursor.fetchone() is not None

    async def retry_later(self, lease: Lease, error: str, *, max_attempts: int) -> None:
        """Return an episode that the environment broke to the queue; after ``max_attempts`` finish it as a failure."""
        await self._database.execute(
            """UPDATE episode SET failures = failures + 1, error = %s, worker = NULL, lease_until = NULL,
                      phase = CASE WHEN failures + 1 >= %s THEN 'finished' ELSE 'waiting' END,
                      success = CASE WHEN failures + 1 >= %s THEN false END,
                      score = CASE WHEN failures + 1 >= %s THEN 0 END,
                      stop_reason = CASE WHEN failures + 1 >= %s THEN 'broken' END,
                      finished_at = CASE WHEN failures + 1 >= %s THEN now() END
               WHERE id = %s AND lease = %s AND phase = 'leased' AND worker = %s""",
            error, *[max_attempts] * 5, lease.episode_id, lease.number, self._worker,
        )  # fmt: skip

    async def release(self) -> None:
        """Release all leases of this worker; nothing is counted against the episodes."""
        run_id, round_, arms = self._scope
        await self._database.execute(
            """UPDATE episode SET phase = 'waiting', worker = NULL, lease_until = NULL, lease = lease - 1
               WHERE run_id = %s AND round = %s AND arm = ANY(%s) AND phase = 'leased' AND worker = %s""",
            run_id, round_, arms, self._worker,
        )  # fmt: skip

    async def fail_exhausted(self) -> None:
        """Finish as failures the episodes whose workers died :data:`MAX_LEASES` times."""
        await self._database.execute(
            """UPDATE episode SET phase = 'finished', success = false, score = 0, stop_reason = 'broken',
                      finished_at = now(), error = format('%%s workers died while they played it', lease - failures)
               WHERE run_id = %s AND round = %s AND arm = ANY(%s) AND lease - failures >= %s
                 AND (phase = 'waiting' OR phase = 'leased' AND lease_until < now())""",
            *self._scope, MAX_LEASES,
        )  # fmt: skip

    async def all_broken(self) -> tuple[int, str] | None:
        """Return the number of finished episodes and the most frequent error if all of them broke; else None.

        One whose first prompt did not fit into the server's context broke, too: no model has played it.
        """
        rows = await self._database.fetch(
            """SELECT count(*) AS n, mode() WITHIN GROUP (ORDER BY error) AS error,
                      bool_and(stop_reason = 'broken' OR stop_reason = 'context' AND turns = 0) AS broken
               FROM episode WHERE run_id = %s AND round = %s AND arm = ANY(%s) AND phase = 'finished'""",
            *self._scope,
        )
        return (rows[0]["n"], rows[0]["error"]) if rows[0]["broken"] else None

    async def counts(self) -> tuple[int, int]:
        """Return the number of finished episodes, and of all."""
        rows = await self._database.fetch(
            """SELECT count(*) FILTER (WHERE phase = 'finished') AS done, count(*) AS total
               FROM episode WHERE run_id = %s AND round = %s AND arm = ANY(%s)""",
            *self._scope,
        )
        return rows[0]["done"], rows[0]["total"]
