"""Pairs of episodes: held-out tasks that the baseline failed and the student solved, and the teacher's hints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distillery.core.planner.plays import BASELINE, TEACHER
from distillery.database import Row
from distillery.database.episodes import EpisodeStore

# A report stays small whatever models and environments write.
PAIRS, TURNS, LAST_TURNS, LETTERS = 6, 12, 4, 500


async def solved_pairs(episodes: EpisodeStore, *, round: int, candidate: str) -> dict[str, Any]:
    """Return up to ``PAIRS`` tasks of a round that base failed and the student solved, of all categories in turn.

    With each stands what the teacher saw: the hints of the nearest training task (by the goals' embeddings, of the
    same category if there is one) that it solved with hints, in this round or an earlier one.
    """
    rows = await episodes.read_solved_pairs(round, failed_arm=BASELINE, solved_arm=candidate, limit=PAIRS)
    turns = await episodes.read_turns([row[side] for row in rows for side in ("failed_id", "solved_id")])
    return {
        "found": rows[0]["found"] if rows else 0,
        "shown": [
            {
                "task": row["task_id"],
                "category": row["category"],
                "goal": clip(row["goal"]),
                "initialObservation": clip(row["initial_observation"] or ""),
                "failed": _play(BASELINE, row["failed_steps"], row["failed_stop_reason"], turns[row["failed_id"]]),
                "solved": _play(candidate, row["solved_steps"], row["solved_stop_reason"], turns[row["solved_id"]]),
                "lesson": await _lesson(episodes, round, row),
            }
            for row in rows
        ],
    }


def clip(text: str, letters: int = LETTERS) -> str:
    """Return a text, or its beginning if it is too long."""
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def _play(arm: str, steps: int, stop_reason: str, turns: Sequence[Row]) -> dict[str, Any]:
    """Return an episode's beginning and end; ``leftOut`` turns between them are not shown."""
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


async def _lesson(episodes: EpisodeStore, round: int, pair: Row) -> dict[str, Any] | None:
    """Return what the teacher saw of the nearest training task that it solved with hints; None if there is none."""
    row = await episodes.find_lesson(round, arm=TEACHER, category=pair["category"], goal=pair["goal"])
    if row is None:
        return None
    return {"goal": clip(row["goal"]), "steps": row["steps"], "hints": [clip(hint) for hint in row["hints"]]}
