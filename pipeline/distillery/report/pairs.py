"""Episodes side by side: held-out tasks that base failed and the student solved, and what the teacher had seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distillery.core.planner.graph import BASELINE, CANDIDATE, TEACHER
from distillery.database import Database, Row

# A report stays small whatever models and environments write.
PAIRS, TURNS, LAST_TURNS, LETTERS = 6, 12, 4, 500


async def solved_pairs(database: Database, run_id: int, *, round: int) -> dict[str, Any]:
    """Return up to ``PAIRS`` tasks of a round that base failed and the student solved, of all categories in turn.

    With each stands what the teacher saw: the hints of the nearest training task (by the goals' embeddings, of the
    same category if there is one) that it solved with hints, in this round or an earlier one.
    """
    rows = await database.fetch(
        """SELECT base.id AS failed_id, student.id AS solved_id, base.task_id, base.category, base.goal,
                  base.initial_observation, base.steps AS failed_steps, base.stop_reason AS failed_stop_reason,
                  student.steps AS solved_steps, student.stop_reason AS solved_stop_reason, count(*) OVER () AS found,
                  row_number() OVER (PARTITION BY base.category ORDER BY student.steps, base.id) AS turn_of_category
           FROM episode AS base JOIN episode AS student USING (run_id, round, task_id, seed)
           WHERE run_id = %s AND round = %s AND base.arm = 'baseline' AND student.arm = %s
             AND base.phase = 'finished' AND student.phase = 'finished' AND base.steps IS NOT NULL
             AND NOT base.success AND student.success
           ORDER BY turn_of_category, base.category, base.id LIMIT %s""",
        run_id, round, CANDIDATE, PAIRS,
    )  # fmt: skip
    ids = [row[side] for row in rows for side in ("failed_id", "solved_id")]
    turns: dict[int, list[Row]] = {number: [] for number in ids}
    for turn in await database.fetch(
        """SELECT episode_id, reply, action, observation, valid FROM turn
           WHERE episode_id = ANY(%s) ORDER BY episode_id, index""",
        ids,
    ):
        turns[turn["episode_id"]].append(turn)
    return {
        "found": rows[0]["found"] if rows else 0,
        "shown": [
            {
                "task": row["task_id"],
                "category": row["category"],
                "goal": clip(row["goal"]),
                "initialObservation": clip(row["initial_observation"] or ""),
                "failed": _play(BASELINE, row["failed_steps"], row["failed_stop_reason"], turns[row["failed_id"]]),
                "solved": _play(CANDIDATE, row["solved_steps"], row["solved_stop_reason"], turns[row["solved_id"]]),
                "lesson": await _lesson(database, run_id, round, row),
            }
            for row in rows
        ],
    }


def clip(text: str, letters: int = LETTERS) -> str:
    """Return a text, or its beginning if it is too long."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def _play(arm: str, steps: int, stop_reason: str, turns: Sequence[Row]) -> dict[str, Any]:
    """An episode's beginning and end; ``leftOut`` turns between them are not shown."""
    left_out = max(0, len(turns) - TURNS)
    first = TURNS - LAST_TURNS if left_out else len(turns)
    return {
        "arm": arm,
        "steps": steps,
        "stopReason": stop_reason,
        "leftOut": left_out,
        "first": [_turn(turn) for turn in turns[:first]],
        "last": [_turn(turn) for turn in turns[first + left_out :]],
    }


def _turn(turn: Row) -> dict[str, Any]:
    return {
        "reply": clip(turn["reply"]),
        "action": None if turn["action"] is None else clip(turn["action"]),
        "observation": clip(turn["observation"]),
        "valid": turn["valid"],
    }


async def _lesson(database: Database, run_id: int, round: int, pair: Row) -> dict[str, Any] | None:
    rows = await database.fetch(
        """SELECT goal, hints, steps FROM episode
                  LEFT JOIN embedding ON embedding.sha256 = sha256(convert_to(goal, 'UTF8'))
           WHERE run_id = %s AND round <= %s AND arm = %s AND phase = 'finished' AND success AND hints <> '{}'
           ORDER BY category <> %s,
                    embedding <=> (SELECT embedding FROM embedding WHERE sha256 = sha256(convert_to(%s, 'UTF8')))
                    NULLS LAST, id
           LIMIT 1""",
        run_id, round, TEACHER, pair["category"], pair["goal"],
    )  # fmt: skip
    if not rows:
        return None
    return {"goal": clip(rows[0]["goal"]), "steps": rows[0]["steps"], "hints": [clip(h) for h in rows[0]["hints"]]}
