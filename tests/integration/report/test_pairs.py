"""Episodes side by side, and the effect of hints, from a real database."""

from __future__ import annotations

from dataclasses import replace

from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.database.episodes import EpisodeStore
from distillery.environments.base import Task
from distillery.episodes import Turn
from distillery.hints.bank import HintBank
from distillery.hints.base import HintCandidate
from distillery.report.pairs import PAIRS, TURNS, solved_pairs
from tests.fakes.agents import episode
from tests.integration.episodes import PREFIX

TURN = Turn("go", "go", "You went.", True, 0, 12, 3, 8, 0.5)


async def play(
    database: Database,
    run_id: int,
    arm: str,
    of: Task,
    *,
    success: bool,
    turns: int = 2,
    hints: tuple[str, ...] = (),
    hint_ids: tuple[int, ...] = (),
    text: str = "You went.",
) -> int:
    queue = EpisodeQueue(database, run_id, round=1, arms=[arm], worker=Worker("w", 60))
    await queue.enqueue([EpisodeRequest(of, arm, hint_ids=hint_ids, hints=hints)])
    (lease,) = await queue.lease(1)
    played = [replace(TURN, reply=f"go {index}", observation=text) for index in range(turns)]
    made = episode(played, prefix=PREFIX, initial_observation="You are in a room.", of=of, success=success, arm=arm)
    assert await queue.finish(lease, made)
    return lease.episode_id


def held_out(number: int, category: str = "put") -> Task:
    return Task(f"valid/{number}", "valid", category, f"{category} mug {number} in shelf")


async def embed(database: Database, **places: int) -> None:
    """Embed goals as unit vectors along an axis each: the same axis is near, another one far."""
    for goal, place in places.items():
        vector = [0.0] * 384
        vector[place] = 1.0
        await database.execute(
            "INSERT INTO embedding (sha256, embedding) VALUES (sha256(convert_to(%s, 'UTF8')), %s::halfvec)",
            goal.replace("_", " "), str(vector),
        )  # fmt: skip


async def test_pairs_are_tasks_that_only_the_student_solved(database: Database, run_id: int):
    for number, (base, student) in enumerate([(False, True), (True, True), (False, False), (True, False)]):
        await play(database, run_id, "baseline", held_out(number), success=base)
        await play(database, run_id, "distilled", held_out(number), success=student)
    pairs = await solved_pairs(EpisodeStore(database, run_id), round=1, candidate="distilled")
    assert pairs["found"] == 1
    (pair,) = pairs["shown"]
    assert pair["task"] == "valid/0"
    assert pair["lesson"] is None
    assert [turn["reply"] for turn in pair["solved"]["first"]] == ["go 0", "go 1"]
    assert await solved_pairs(EpisodeStore(database, run_id), round=2, candidate="distilled") == {
        "found": 0,
        "shown": [],
    }


async def test_pairs_are_of_every_category_with_texts_shortened(database: Database, run_id: int):
    for number in range(PAIRS + 2):
        of = held_out(number, "heat" if number == PAIRS + 1 else "put")
        await play(database, run_id, "baseline", of, success=False, turns=20, text="x" * 5000)
        await play(database, run_id, "distilled", of, success=True)
    pairs = await solved_pairs(EpisodeStore(database, run_id), round=1, candidate="distilled")
    assert (pairs["found"], len(pairs["shown"])) == (PAIRS + 2, PAIRS)
    assert [pair["category"] for pair in pairs["shown"][:3]] == ["heat", "put", "put"]
    failed = pairs["shown"][0]["failed"]
    assert failed["leftOut"] == 20 - TURNS
    assert [turn["reply"] for turn in failed["first"]] == [f"go {index}" for index in range(8)]
    assert [turn["reply"] for turn in failed["last"]] == [f"go {index}" for index in range(16, 20)]
    assert failed["first"][0]["observation"] == "x" * 499 + "…"


async def test_lesson_is_the_nearest_task_that_the_teacher_solved(database: Database, run_id: int):
    await embed(database, put_mug_0_in_shelf=0, put_cup_in_shelf=0, put_pan_in_fridge=1)
    await play(database, run_id, "baseline", held_out(0), success=False)
    await play(database, run_id, "distilled", held_out(0), success=True)

    def taught(number: int, goal: str, category: str = "put") -> Task:
        return Task(f"train/{number}", "train", category, goal)

    await play(database, run_id, "teacher", taught(0, "put pan in fridge"), success=True, hints=("far",))
    await play(database, run_id, "teacher", taught(1, "put cup in shelf"), success=False, hints=("failed",))
    await play(database, run_id, "teacher", taught(2, "put cup in shelf"), success=True)
    await play(database, run_id, "teacher", taught(3, "never embedded"), success=True, hints=("unknown",))
    await play(database, run_id, "teacher", taught(4, "put cup in shelf", "heat"), success=True, hints=("other",))
    await play(database, run_id, "teacher", taught(5, "put cup in shelf"), success=True, hints=("near", "too"))
    (pair,) = (await solved_pairs(EpisodeStore(database, run_id), round=1, candidate="distilled"))["shown"]
    assert pair["lesson"] == {"goal": "put cup in shelf", "steps": 2, "hints": ["near", "too"]}


async def test_hint_is_compared_with_the_same_arm_tasks_and_player(database: Database, run_id: int):
    bank = HintBank(database, bank="default/test", environment="alfworld", agent="react")

    def trained(number: int, category: str = "put") -> Task:
        return Task(f"train/{number}", "train", category, "put mug in shelf")

    source = await play(database, run_id, "own", trained(0), success=False)
    candidates = [HintCandidate("", f"look for a {thing} in desk", (source,), thing) for thing in ("mug", "pan")]
    await bank.add(candidates, round=1, extractor="rules", model="", similarity=0.9)
    mug, pan = sorted(await bank.all(), key=lambda hint: hint.text)
    for number, given, solved, alone in ((0, mug, True, None), (1, mug, False, True), (2, pan, True, False)):
        await play(database, run_id, "teacher", trained(number), success=solved, hint_ids=(given.id,), hints=("x",))
        if alone is not None:
            await play(database, run_id, "own", trained(number), success=alone)
    # of another category, of another arm, and of held-out tasks: all unlike
    await play(database, run_id, "teacher", trained(3, "heat"), success=False, hint_ids=(pan.id,), hints=("x",))
    await play(database, run_id, "own", trained(3, "heat"), success=False)
    await play(database, run_id, "placebo-teacher", trained(0), success=True, hint_ids=(mug.id,), hints=("x",))
    await play(database, run_id, "rag", held_out(0), success=True, hint_ids=(mug.id,), hints=("x",))

    rows = {row["text"]: row for row in await bank.statistics(plays_alike=True)}
    row = rows[mug.text]
    assert (row["uses"], row["success_with"], row["success_without"], row["success_without_hints"]) == (2, 0.5, 1, 0.5)
    row = rows[pan.text]
    assert (row["uses"], row["success_with"], row["success_without_hints"]) == (2, 0.5, 0)
    assert row["success_without"] is None, "nobody else was given a hint for heating"
    assert all(row["success_without_hints"] is None for row in await bank.statistics(plays_alike=False))
