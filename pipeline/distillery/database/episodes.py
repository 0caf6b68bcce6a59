"""The queue of episodes: enqueued once, leased to workers, finished once. Lives in one table.

A worker leases episodes with ``SKIP LOCKED``, renews its leases while it plays, and finishes each in one transaction
under the lease's number: a worker that was thought dead and is not can't finish what another took over. So every
(round, arm, task, seed) has exactly one counted episode, whatever is killed when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from distillery.agents import Head, Span
from distillery.database.connection import Database, Row
from distillery.environments.base import Task
from distillery.episodes import Episode, Turn

# A task whose worker died this often without a word is taken for the cause of it. Deaths are the leases that neither a
# release nor a failure of the environment accounts for: ``lease - failures``.
MAX_LEASES = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """An episode to be played."""

    task: Task
    arm: str
    seed: int = 0
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


class EpisodeQueue:
    """The episodes of one stage: a round and its arms."""

    def __init__(
        self, database: Database, run_id: int, round: int, arms: Sequence[str], *, worker: str, seconds: int
    ) -> None:
        self._database = database
        self._scope = (run_id, round, list(arms))
        self._worker = worker
        self._seconds = seconds

    async def enqueue(self, wanted: Iterable[Wanted]) -> None:
        """Add episodes; those that are there already stay as they are."""
        run_id, round_, _ = self._scope
        rows = [
            (run_id, round_, w.arm, w.task.id, w.task.split, w.task.category, w.task.goal, w.seed, w.priority,
             list(w.hint_ids), list(w.hints))
            for w in wanted
        ]  # fmt: skip

        async def work(connection: AsyncConnection[Row]) -> None:
            await connection.cursor().executemany(
                """INSERT INTO episode
                   (run_id, round, arm, task_id, split, category, goal, seed, priority, hint_ids, hints)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
                rows,
            )

        await self._database.transaction(work)

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
            Lease(row["id"], row["lease"], _task(row), row["arm"], row["seed"], tuple(row["hint_ids"]),
                  tuple(row["hints"]))
            for row in sorted(rows, key=lambda row: (-row["priority"], row["id"]))
        ]  # fmt: skip

    async def renew(self, leases: Iterable[Lease]) -> set[int]:
        """Prolong leases, and return the ids of the episodes that are still this worker's."""
        held = [(lease.episode_id, lease.number) for lease in leases]
        if not held:
            return set()
        rows = await self._database.fetch(
            """UPDATE episode SET lease_until = now() + make_interval(secs => %s)
               FROM unnest(%s::bigint[], %s::integer[]) AS held (id, number)
               WHERE episode.id = held.id AND lease = held.number AND phase = 'leased' AND worker = %s
               RETURNING episode.id""",
            self._seconds, [i for i, _ in held], [n for _, n in held], self._worker,
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
                    sum(cached) if len(cached) == len(turns) else None, episode.examples, episode.opening,
                    Jsonb(list(episode.head.messages)),
                    Jsonb({name: [s.message, s.start, s.end] for name, s in episode.head.spans.items()}),
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
        """Whether an earlier try at this very ``finish`` was committed though its confirmation was lost."""
        cursor = await connection.execute(
            "SELECT 1 FROM episode WHERE id = %s AND lease = %s AND phase = 'finished' AND worker = %s",
            (lease.episode_id, lease.number, self._worker),
        )
        return await cursor.fetchone() is not None

    async def break_off(self, lease: Lease, error: str, *, max_attempts: int) -> None:
        """Give an episode back that the environment broke; after ``max_attempts`` it is finished as a failure."""
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
        """Give back everything this worker holds; nothing is counted against the episodes."""
        run_id, round_, arms = self._scope
        await self._database.execute(
            """UPDATE episode SET phase = 'waiting', worker = NULL, lease_until = NULL, lease = lease - 1
               WHERE run_id = %s AND round = %s AND arm = ANY(%s) AND phase = 'leased' AND worker = %s""",
            run_id, round_, arms, self._worker,
        )  # fmt: skip

    async def give_up_hopeless(self) -> None:
        """Finish, as failures, the episodes whose workers died again and again."""
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


async def write_turns(connection: AsyncConnection[Row], episode_id: int, turns: Iterable[Turn]) -> None:
    """Store an episode's turns."""
    async with connection.cursor().copy(
        "COPY turn (episode_id, index, reply, action, observation, valid, first_turn, prompt_tokens, "
        "completion_tokens, cached_tokens, seconds, finish_reason) FROM STDIN"
    ) as copy:
        for index, t in enumerate(turns):
            await copy.write_row((
                episode_id, index, t.reply, t.action, t.observation, t.valid, t.first_turn, t.prompt_tokens,
                t.completion_tokens, t.cached_tokens, t.seconds, t.finish_reason,
            ))  # fmt: skip


async def free_leases(database: Database, run_id: int) -> None:
    """Give back all leases of a run whose driver is gone and its workers with it; the episodes did not cause that."""
    await database.execute(
        """UPDATE episode SET phase = 'waiting', worker = NULL, lease_until = NULL, lease = lease - 1
           WHERE run_id = %s AND phase = 'leased'""",
        run_id,
    )


async def read_episodes(
    database: Database, run_id: int, *, arms: Sequence[str], rounds: Sequence[int], turns: bool = True
) -> list[Episode]:
    """Return the finished episodes that were played to an end, in the order of round, arm, task and seed."""
    rows = await database.fetch(
        """SELECT * FROM episode WHERE run_id = %s AND arm = ANY(%s) AND round = ANY(%s) AND phase = 'finished'
           ORDER BY round, arm, task_id, seed""",
        run_id, list(arms), list(rounds),
    )  # fmt: skip
    by_episode: dict[int, list[Turn]] = {row["id"]: [] for row in rows}
    if turns and rows:
        for t in await database.fetch(
            "SELECT * FROM turn WHERE episode_id = ANY(%s) ORDER BY episode_id, index", list(by_episode)
        ):
            by_episode[t["episode_id"]].append(
                Turn(t["reply"], t["action"], t["observation"], t["valid"], t["first_turn"], t["prompt_tokens"],
                     t["completion_tokens"], t["cached_tokens"], t["seconds"], t["finish_reason"])
            )  # fmt: skip
    return [_episode(row, by_episode[row["id"]]) for row in rows]


async def read_openings(database: Database, run_id: int, *, arms: Sequence[str]) -> list[tuple[str, str]]:
    """Return the openings that the arms' finished episodes began with, each with the id of its task."""
    rows = await database.fetch(
        """SELECT DISTINCT task_id, initial_observation FROM episode
           WHERE run_id = %s AND arm = ANY(%s) AND phase = 'finished' AND initial_observation <> ''
           ORDER BY task_id, initial_observation""",
        run_id, list(arms),
    )  # fmt: skip
    return [(row["task_id"], row["initial_observation"]) for row in rows]


async def read_given_hints(
    database: Database, run_id: int, *, arm: str, rounds: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Return the hints that an arm was given, by the id of the task."""
    rows = await database.fetch(
        """SELECT DISTINCT task_id, unnest(hints) AS hint FROM episode
           WHERE run_id = %s AND arm = %s AND round = ANY(%s) ORDER BY task_id, hint""",
        run_id, arm, list(rounds),
    )  # fmt: skip
    given: dict[str, tuple[str, ...]] = {}
    for row in rows:
        given[row["task_id"]] = (*given.get(row["task_id"], ()), row["hint"])
    return given


def _task(row: Row) -> Task:
    return Task(row["task_id"], row["split"], row["category"], row["goal"])


def _episode(row: Row, turns: Sequence[Turn]) -> Episode:
    spans = {name: Span(*span) for name, span in (row["prompt_spans"] or {}).items()}
    return Episode(
        id=row["id"],
        task=_task(row),
        arm=row["arm"],
        seed=row["seed"],
        success=row["success"],
        score=row["score"],
        stop=row["stop_reason"],
        opening=row["initial_observation"] or "",
        head=Head(tuple(row["prompt_prefix"] or ()), spans),
        examples=row["examples"] or 0,
        hint_ids=tuple(row["hint_ids"]),
        hints=tuple(row["hints"]),
        turns=tuple(turns),
        error=row["error"] or "",
    )
