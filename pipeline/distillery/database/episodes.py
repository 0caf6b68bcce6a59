"""Finished episodes: read back as they were played, counted, and compared. The queue is a module of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from distillery.agents import PromptPrefix, Span
from distillery.core.contracts.messages import from_openai
from distillery.database.connection import Database, Row
from distillery.environments.base import Task
from distillery.episodes import Episode, Turn


class EpisodeStore:
    """The episodes of one run, and their turns."""

    def __init__(self, database: Database, run_id: int) -> None:
        self._database = database
        self._run_id = run_id

    async def read(
        self, *, arms: Sequence[str], rounds: Sequence[int], turns: bool = True, copies: bool = True
    ) -> list[Episode]:
        """Return the finished episodes that were played to an end, in the order of round, arm, task and seed.

        Args:
            arms: that played them.
            rounds: in which they were played.
            turns: with their turns.
            copies: with those that repeat an episode of an earlier round.
        """
        rows = await self._database.fetch(
            """SELECT * FROM episode WHERE run_id = %s AND arm = ANY(%s) AND round = ANY(%s) AND phase = 'finished'
                 AND (%s OR copied_from IS NULL)
               ORDER BY round, arm, task_id, seed""",
            self._run_id, list(arms), list(rounds), copies,
        )  # fmt: skip
        by_episode: dict[int, list[Turn]] = {row["id"]: [] for row in rows}
        if turns and rows:
            for turn in await self._database.fetch(
                "SELECT * FROM turn WHERE episode_id = ANY(%s) ORDER BY episode_id, index", list(by_episode)
            ):
                by_episode[turn["episode_id"]].append(_turn(turn))
        return [_episode(row, by_episode[row["id"]]) for row in rows]

    async def read_openings(self, *, arms: Sequence[str]) -> list[tuple[str, str]]:
        """Return the id of the task and the initial observation of the arms' finished episodes, without repetitions."""
        rows = await self._database.fetch(
            """SELECT DISTINCT task_id, initial_observation FROM episode
               WHERE run_id = %s AND arm = ANY(%s) AND phase = 'finished' AND initial_observation <> ''
               ORDER BY task_id, initial_observation""",
            self._run_id, list(arms),
        )  # fmt: skip
        return [(row["task_id"], row["initial_observation"]) for row in rows]

    async def read_task_ids(self, *, arms: Sequence[str]) -> set[str]:
        """Return the ids of the tasks that arms played, in any round."""
        rows = await self._database.fetch(
            "SELECT DISTINCT task_id FROM episode WHERE run_id = %s AND arm = ANY(%s)", self._run_id, list(arms)
        )
        return {row["task_id"] for row in rows}

    async def read_ids(self, round: int, *, arms: Sequence[str]) -> set[int]:
        """Return the ids of the episodes that arms play in a round."""
        rows = await self._database.fetch(
            "SELECT id FROM episode WHERE run_id = %s AND round = %s AND arm = ANY(%s)", self._run_id, round, list(arms)
        )
        return {row["id"] for row in rows}

    async def read_tasks(self, round: int, *, arms: Sequence[str]) -> list[Task]:
        """Return the tasks that arms play in a round, whether they were played yet or not."""
        rows = await self._database.fetch(
            """SELECT DISTINCT ON (task_id) task_id, split, category, goal FROM episode
               WHERE run_id = %s AND round = %s AND arm = ANY(%s) ORDER BY task_id""",
            self._run_id, round, list(arms),
        )  # fmt: skip
        return [task_of(row) for row in rows]

    async def read_histories(self, *, arms: Sequence[str], alone: str, until: int) -> list[Row]:
        """Return how tasks went in arms before a round: :class:`distillery.sampling.base.TaskHistory` as rows.

        Args:
            arms: of play on training tasks.
            alone: the arm whose first attempt counts as solved alone.
            until: the round that is not counted any more.
        """
        rows = await self._database.fetch(
            """WITH played AS (
                   SELECT *, max(round) OVER (PARTITION BY task_id) AS last FROM episode
                   WHERE run_id = %s AND arm = ANY(%s) AND round < %s AND phase = 'finished')
               SELECT task_id, min(split) AS split, min(category) AS category, min(goal) AS goal, min(last) AS round,
                      count(*) AS plays, count(*) FILTER (WHERE success) AS successes,
                      coalesce(bool_or(success) FILTER (WHERE arm = %s AND seed = 0 AND round = last), false)
                          AS solved_alone
               FROM played GROUP BY task_id ORDER BY min(last), task_id""",
            self._run_id, list(arms), until, alone,
        )  # fmt: skip
        history = ("round", "plays", "successes", "solved_alone")
        return [{"task": task_of(row), **{name: row[name] for name in history}} for row in rows]

    async def read_given_hints(self, *, arm: str, rounds: Sequence[int]) -> dict[str, tuple[str, ...]]:
        """Return the hints that an arm was given, by the id of the task."""
        rows = await self._database.fetch(
            """SELECT DISTINCT task_id, unnest(hints) AS hint FROM episode
               WHERE run_id = %s AND arm = %s AND round = ANY(%s) ORDER BY task_id, hint""",
            self._run_id, arm, list(rounds),
        )  # fmt: skip
        hints: dict[str, tuple[str, ...]] = {}
        for row in rows:
            hints[row["task_id"]] = (*hints.get(row["task_id"], ()), row["hint"])
        return hints

    async def add(self, round: int, episodes: Sequence[tuple[Episode, datetime]]) -> None:
        """Store episodes that were played elsewhere, each with its time; those that are there already stay."""

        async def work(connection: AsyncConnection[Row]) -> None:
            for episode, time in episodes:
                cursor = await connection.execute(
                    """INSERT INTO episode (run_id, round, arm, task_id, split, category, goal, seed, phase, success,
                                            score, stop_reason, steps, turns, invalid_actions, examples,
                                            initial_observation, prompt_prefix, prompt_spans, started_at, finished_at)
                       VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 'finished', %s, %s, %s, %s, %s, %s, 0, %s, %s, '{}', %s,
                               %s)
                       ON CONFLICT DO NOTHING RETURNING id""",
                    (
                        self._run_id, round, episode.arm, episode.task.id, episode.task.split, episode.task.category,
                        episode.task.goal, episode.seed, episode.success, episode.score, episode.stop,
                        sum(turn.action is not None for turn in episode.turns), len(episode.turns),
                        episode.invalid_actions, episode.initial_observation,
                        Jsonb(list(episode.prompt_prefix.messages)), time, time,
                    ),
                )  # fmt: skip
                if row := await cursor.fetchone():
                    await write_turns(connection, row["id"], episode.turns)

        await self._database.transaction(work)

    async def release_all(self) -> None:
        """Release all leases of a run whose driver is gone and its workers with it; the episodes did not cause that."""
        await self._database.execute(
            """UPDATE episode SET phase = 'waiting', worker = NULL, lease_until = NULL, lease = lease - 1
               WHERE run_id = %s AND phase = 'leased'""",
            self._run_id,
        )

    async def expire(self, *, arm: str, days: int) -> int:
        """Delete the episodes of an arm that finished more than so many days ago; return how many."""
        return await self._database.execute(
            "DELETE FROM episode WHERE run_id = %s AND arm = %s AND finished_at < now() - make_interval(days => %s)",
            self._run_id, arm, days,
        )  # fmt: skip

    async def mean_steps(self, *, without_arm: str) -> dict[str, float]:
        """Return the mean number of steps by category, of all arms but one."""
        rows = await self._database.fetch(
            """SELECT category, avg(steps)::float AS steps FROM episode WHERE run_id = %s AND steps > 0 AND arm <> %s
               GROUP BY category""",
            self._run_id, without_arm,
        )  # fmt: skip
        return {row["category"]: row["steps"] for row in rows}

    async def count_long(self, round: int, *, arms: Sequence[str], max_tokens: int) -> int:
        """Return how many episodes of a round have a turn of more than so many tokens, prompt and reply together."""
        rows = await self._database.fetch(
            """SELECT count(DISTINCT e.id) AS n FROM episode e JOIN turn t ON t.episode_id = e.id
               WHERE e.run_id = %s AND e.round = %s AND e.arm = ANY(%s) AND t.prompt_tokens + t.completion_tokens > %s
            """,
            self._run_id, round, list(arms), max_tokens,
        )  # fmt: skip
        return rows[0]["n"]

    async def summarize(self, round: int, *, arms: Sequence[str]) -> dict[str, Row]:
        """Return the counts, means and tokens of a round's arms, by arm, under the names that a stage result has."""
        rows = await self._database.fetch(
            """SELECT arm, count(*) AS n, count(*) FILTER (WHERE success) AS successes, avg(score)::float AS score,
                      avg(steps)::float AS steps, count(*) FILTER (WHERE stop_reason = 'broken') AS broken,
                      count(*) FILTER (WHERE stop_reason = 'refused') AS refused,
                      coalesce(sum(cut_replies)::float / nullif(sum(turns), 0), 0) AS "cutReplies",
                      count(copied_from) AS copied,
                      coalesce(sum(prompt_tokens) FILTER (WHERE copied_from IS NULL), 0)::bigint AS "promptTokens",
                      coalesce(sum(completion_tokens) FILTER (WHERE copied_from IS NULL), 0)::bigint
                          AS "completionTokens",
                      sum(cached_tokens) FILTER (WHERE copied_from IS NULL)::bigint AS "cachedTokens"
               FROM episode WHERE run_id = %s AND round = %s AND arm = ANY(%s) GROUP BY arm ORDER BY arm""",
            self._run_id, round, list(arms),
        )  # fmt: skip
        return {row.pop("arm"): row for row in rows}

    async def read_results(self, round: int, *, arms: Sequence[str]) -> list[Row]:
        """Return the results of the finished episodes of a round's arms, without their turns."""
        return await self._database.fetch(
            """SELECT arm, task_id, category, seed, success, score, stop_reason, steps, invalid_actions, prompt_tokens,
                      completion_tokens, cached_tokens, turns, cut_replies
               FROM episode WHERE run_id = %s AND round = %s AND arm = ANY(%s) AND phase = 'finished'
               ORDER BY task_id, seed""",
            self._run_id, round, list(arms),
        )  # fmt: skip

    async def count_tokens(self) -> list[Row]:
        """Return the tokens of finished episodes, a row for each round and arm; copies cost none."""
        return await self._database.fetch(
            """SELECT round, arm, count(*) AS episodes, sum(turns)::bigint AS calls,
                      sum(prompt_tokens)::bigint AS prompt, sum(completion_tokens)::bigint AS completion,
                      CASE WHEN count(cached_tokens) = count(*) THEN sum(cached_tokens)::bigint END AS cached
               FROM episode
               WHERE run_id = %s AND phase = 'finished' AND prompt_tokens IS NOT NULL AND copied_from IS NULL
               GROUP BY round, arm""",
            self._run_id,
        )

    async def read_solved_pairs(self, round: int, *, failed_arm: str, solved_arm: str, limit: int) -> list[Row]:
        """Return pairs of episodes at one task, failed in one arm and solved in another, of all categories in turn.

        ``found`` in each row is the number of all such pairs.
        """
        return await self._database.fetch(
            """SELECT failed.id AS failed_id, solved.id AS solved_id, failed.task_id, failed.category, failed.goal,
                      failed.initial_observation, failed.steps AS failed_steps,
                      failed.stop_reason AS failed_stop_reason, solved.steps AS solved_steps,
                      solved.stop_reason AS solved_stop_reason, count(*) OVER () AS found,
                      row_number() OVER (PARTITION BY failed.category ORDER BY solved.steps, failed.id)
                          AS turn_of_category
               FROM episode AS failed JOIN episode AS solved USING (run_id, round, task_id, seed)
               WHERE run_id = %s AND round = %s AND failed.arm = %s AND solved.arm = %s
                 AND failed.phase = 'finished' AND solved.phase = 'finished' AND failed.steps IS NOT NULL
                 AND NOT failed.success AND solved.success
               ORDER BY turn_of_category, failed.category, failed.id LIMIT %s""",
            self._run_id, round, failed_arm, solved_arm, limit,
        )  # fmt: skip

    async def read_turns(self, episode_ids: Sequence[int]) -> Mapping[int, Sequence[Row]]:
        """Return the turns of episodes, by the id of the episode."""
        turns: dict[int, list[Row]] = {number: [] for number in episode_ids}
        for turn in await self._database.fetch(
            """SELECT episode_id, reply, action, observation, valid FROM turn
               WHERE episode_id = ANY(%s) ORDER BY episode_id, index""",
            list(episode_ids),
        ):
            turns[turn["episode_id"]].append(turn)
        return turns

    async def find_lesson(self, round: int, *, arm: str, category: str, goal: str) -> Row | None:
        """Return goal, hints and steps of the solved episode whose goal is nearest, of the same category if possible.

        Only episodes of an arm that had hints are searched, of this round and of earlier ones.
        """
        rows = await self._database.fetch(
            """SELECT goal, hints, steps FROM episode
                      LEFT JOIN embedding ON embedding.sha256 = sha256(convert_to(goal, 'UTF8'))
               WHERE run_id = %s AND round <= %s AND arm = %s AND phase = 'finished' AND success AND hints <> '{}'
               ORDER BY category <> %s,
                        embedding <=> (SELECT embedding FROM embedding WHERE sha256 = sha256(convert_to(%s, 'UTF8')))
                        NULLS LAST, id
               LIMIT 1""",
            self._run_id, round, arm, category, goal,
        )  # fmt: skip
        return rows[0] if rows else None


async def write_turns(connection: AsyncConnection[Row], episode_id: int, turns: Iterable[Turn]) -> None:
    """Store an episode's turns."""
    async with connection.cursor().copy(
        "COPY turn (episode_id, index, reply, action, observation, valid, first_turn, prompt_tokens, "
        "completion_tokens, cached_tokens, seconds, finish_reason) FROM STDIN"
    ) as copy:
        for index, turn in enumerate(turns):
            await copy.write_row((
                episode_id, index, turn.reply, turn.action, turn.observation, turn.valid, turn.first_turn,
                turn.prompt_tokens, turn.completion_tokens, turn.cached_tokens, turn.seconds, turn.finish_reason,
            ))  # fmt: skip


def task_of(row: Row) -> Task:
    """Return the task that a row of the table ``episode`` holds."""
    return Task(row["task_id"], row["split"], row["category"], row["goal"])


def _turn(row: Row) -> Turn:
    """Return the turn that a row holds."""
    return Turn(
        row["reply"], row["action"], row["observation"], row["valid"], row["first_turn"], row["prompt_tokens"],
        row["completion_tokens"], row["cached_tokens"], row["seconds"], row["finish_reason"],
    )  # fmt: skip


def _episode(row: Row, turns: Sequence[Turn]) -> Episode:
    """Return the episode that a row and its turns hold."""
    spans = {name: Span(*span) for name, span in (row["prompt_spans"] or {}).items()}
    return Episode(
        id=row["id"],
        task=task_of(row),
        arm=row["arm"],
        seed=row["seed"],
        success=row["success"],
        score=row["score"],
        stop=row["stop_reason"],
        initial_observation=row["initial_observation"] or "",
        prompt_prefix=PromptPrefix(tuple(map(from_openai, row["prompt_prefix"] or ())), spans),
        examples=row["examples"] or 0,
        hint_ids=tuple(row["hint_ids"]),
        hints=tuple(row["hints"]),
        turns=tuple(turns),
        error=row["error"] or "",
    )
