"""The selection of stage train from a real database: the leak check and the recitation rate over rounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from distillery.agents import PromptPrefix
from distillery.agents.plain import Plain
from distillery.core.api import parse
from distillery.core.artifacts import FolderStore, Identity
from distillery.core.contracts.stage_config import StageConfig
from distillery.core.planner import Dataset, Kind, Stage, StageId
from distillery.core.planner.graph import PREPARE, artifact_of
from distillery.core.planner.plays import ON_POLICY, TEACHER
from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.database.runs import RunStore
from distillery.environments.base import Task
from distillery.episodes import Turn
from distillery.hints.base import HintCandidate
from distillery.stages import train
from distillery.stages.runtime import prepared_run
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.held_out import find_learned_tasks
from distillery.stages.runtime.progress_server import Status
from tests.fakes.agents import FakeEnvironment, episode, task
from tests.unit.documents import document

OPENING = "You see a shelf 1 and a desk 1.\nYour task is to: put mug 1 in shelf."
TURN = Turn("go to desk 1", "go to desk 1", "You arrive.", True, 0, 12, 3, 8, 0.5)
OLD = "look for a mug in cabinet, desk, shelf, countertop, sidetable"
NEW = "look for a mug in desk, countertop, cabinet, sidetable, shelf"


RUN = document(
    agent={"name": "plain"},
    evaluation={"arms": ["baseline", "sft", "distilled", "sft-matched", "distilled-matched"]},
)


class Selecting:
    """A stage train of round 2 over a database that a test fills."""

    def __init__(self, database: Database, run_id: int, folder: Path) -> None:
        self.database, self.run_id = database, run_id
        run = parse(RUN)
        store = FolderStore(folder / "store")
        config = StageConfig.of(
            run, Stage(StageId(2, Kind.TRAIN, "distilled")), server=None, store=store.root.as_uri(), cache=folder,
            identity=Identity("uid", "a" * 64), work=folder, outcome=folder / "outcome",
        )  # fmt: skip
        self.context = StageContext(config, run_id, database, store, Status("r2-train-distilled"))

    async def play(
        self,
        arm: str,
        of: Task,
        *replies: str,
        round: int = 1,
        seed: int = 0,
        hints: Sequence[str] = (),
        initial_observation: str = OPENING,
        seen: str = "You arrive.",
        success: bool = True,
    ) -> int:
        """Store one finished episode."""
        queue = EpisodeQueue(self.database, self.run_id, round=round, arms=[arm], worker=Worker("w", 60))
        await queue.enqueue([EpisodeRequest(of, arm, seed, hints=tuple(hints))])
        (lease,) = await queue.lease(1)
        turns = [replace(TURN, reply=f"{reply} go to desk 1", observation=seen) for reply in replies or ("",)]
        prefix: PromptPrefix = Plain(FakeEnvironment()).build_prefix(of, initial_observation, hints=hints, examples=0)
        made = episode(
            turns, prefix=prefix, initial_observation=initial_observation, of=of, success=success, arm=arm, hints=hints
        )
        assert await queue.finish(lease, made)
        return lease.episode_id

    async def choose(self, arm: str = TEACHER, *, matched: bool = False) -> train.Chosen:
        """Return what the stage learns from."""
        return await train.choose_episodes(self.context, Dataset(arm, matched=matched))


@pytest.fixture
async def selecting(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Selecting:
    """Return a selection of which nothing is played yet."""
    run_id = await RunStore(database).register(parse(RUN))
    made = Selecting(database, run_id, tmp_path)
    store, artifact = made.context.store, artifact_of(PREPARE, made.context.spec.environment.tasks.evaluate)
    draft = store.draft(artifact)
    pinned = {
        "train": [asdict(task(n)) for n in range(6)],
        "evaluate": [asdict(task(n, split="test")) for n in range(2)],
    }
    (draft / "tasks.json").write_text(json.dumps(pinned))
    store.publish(artifact, draft, {"environment": {"source": "made up"}})
    monkeypatch.setattr(prepared_run, "open_environment", lambda spec, folder: FakeEnvironment())
    return made


async def test_episode_is_dropped_when_it_quotes_an_earlier_rounds_hint(selecting: Selecting):
    source = await selecting.play(ON_POLICY, task(1), success=False)
    for round, text in ((1, OLD), (2, NEW)):
        candidate = HintCandidate("", text, (source,), "place of mug")
        await selecting.context.bank.add([candidate], round=round, extractor="rules", model="", similarity=0.85)
    assert [hint.text for hint in await selecting.context.bank.all()] == [NEW]
    await selecting.play(TEACHER, task(1), f"as I know: {OLD}", hints=[OLD])
    kept = await selecting.play(TEACHER, task(2), hints=[OLD])
    chosen = await selecting.choose()
    assert [e.id for e in chosen.episodes] == [kept]
    assert chosen.dropped == {"quotes a hint": 1}


async def test_episode_is_dropped_when_it_quotes_a_deleted_hint(selecting: Selecting):
    await selecting.play(TEACHER, task(1), f"as I know: {OLD}", hints=[OLD])
    assert (await selecting.choose()).dropped == {"quotes a hint": 1}


async def test_held_out_tasks_that_students_learned_from_are_found(selecting: Selecting):
    await selecting.play(ON_POLICY, task(1), initial_observation="a room with a mug")
    await selecting.play("baseline", task(0, split="test"), round=2, initial_observation="a room with a mug")
    await selecting.play("baseline", task(1, split="test"), round=2, initial_observation="a room with a pen")
    assert await find_learned_tasks(selecting.context.episodes, 2, arm="baseline", learning=[ON_POLICY, TEACHER]) == {
        task(0, split="test").id
    }
    # as in ALFWorld: what opens alike turns out not to be the same
    await selecting.play(TEACHER, task(2), initial_observation="a room with a mug", seen="There is nothing.")
    assert (
        await find_learned_tasks(selecting.context.episodes, 2, arm="baseline", learning=[ON_POLICY, TEACHER]) == set()
    )


async def test_recitation_rate_is_counted_for_own_play_too(selecting: Selecting):
    for number, thought in enumerate(["first countertop sidetable", "hm", "hm", "hm"]):
        await selecting.play(TEACHER, task(number), thought, hints=[OLD])
        await selecting.play(ON_POLICY, task(number), thought if number else "hm")
    assert (await selecting.choose(TEACHER)).recitation_rate == 0.25
    assert (await selecting.choose(ON_POLICY)).recitation_rate == 0
    await selecting.play(ON_POLICY, task(0), "first countertop sidetable", round=2)
    assert (await selecting.choose(ON_POLICY)).recitation_rate == 0.2


async def test_matched_students_learn_from_the_tasks_that_both_solved(selecting: Selecting):
    for number in (1, 2, 3):
        await selecting.play(TEACHER, task(number))
    for number in (2, 3, 4):
        await selecting.play(ON_POLICY, task(number))
    for arm in (ON_POLICY, TEACHER):
        chosen = await selecting.choose(arm, matched=True)
        assert [e.task.id for e in chosen.episodes] == ["train/2", "train/3"]
        assert chosen.unmatched == 1
        assert train.find_same_student(selecting.context.spec, Dataset(arm, matched=True), chosen) is None


async def test_matched_student_is_not_trained_when_nothing_is_left_out(selecting: Selecting):
    for number in (1, 2):
        await selecting.play(TEACHER, task(number))
    await selecting.play(ON_POLICY, task(2))
    chosen = await selecting.choose(ON_POLICY, matched=True)
    assert train.find_same_student(selecting.context.spec, Dataset(ON_POLICY, matched=True), chosen) == "sft"


async def test_no_held_out_task_is_learned_from_when_it_has_another_id(selecting: Selecting):
    initial_observation = "You see a bed 1.\nYour task is to: put mug 1 in bed."
    await selecting.play("baseline", task(0, split="test"), initial_observation=initial_observation, success=False)
    await selecting.play(TEACHER, task(1), initial_observation=initial_observation.replace("\n", "  "))
    kept = await selecting.play(TEACHER, task(2))
    chosen = await selecting.choose()
    assert [e.id for e in chosen.episodes] == [kept]
    assert chosen.dropped == {"held-out task": 1}


async def test_tasks_that_open_alike_are_learned_from_when_they_differ_later(selecting: Selecting):
    await selecting.play("baseline", task(0, split="test"), seen="You see a mug 1.", success=False)
    kept = [await selecting.play(TEACHER, task(number), seen="You see nothing.") for number in (1, 2)]
    assert [e.id for e in (await selecting.choose()).episodes] == kept


async def test_control_learns_from_its_own_play_after_a_promotion(selecting: Selecting):
    first = await selecting.play(ON_POLICY, task(1))
    await selecting.play(ON_POLICY, task(2), round=2)
    second = await selecting.play("own-sft", task(2), round=2)
    config = selecting.context.config.model_copy(update={"own_arms": ("own", "own-sft")})
    selecting.context = replace(selecting.context, config=config)
    assert [e.id for e in (await selecting.choose(ON_POLICY)).episodes] == [first, second]


async def test_latest_episodes_of_a_task_are_kept_up_to_the_limit(selecting: Selecting):
    await selecting.play(TEACHER, task(1))
    kept = [await selecting.play(TEACHER, task(1), round=2), await selecting.play(TEACHER, task(2), round=2)]
    run = {**RUN, "spec": {**RUN["spec"], "dataFilter": {"maxPerTask": 1}}}
    config = selecting.context.config.model_copy(update={"document": run})
    selecting.context = replace(selecting.context, config=config)
    chosen = await selecting.choose()
    assert ([e.id for e in chosen.episodes], chosen.dropped) == (kept, {"beyond maxPerTask": 1})


@pytest.mark.parametrize(("share", "again"), [(0.0, 0), (0.5, 2), (1.0, 4)])
async def test_share_of_earlier_episodes_is_trained_on_again(selecting: Selecting, share: float, again: int):
    earlier = {await selecting.play(TEACHER, task(number)) for number in range(4)}
    present = {await selecting.play(TEACHER, task(number), round=2) for number in (4, 5)}
    run = {**RUN, "spec": {**RUN["spec"], "training": {"replayShare": share}}}
    config = selecting.context.config.model_copy(update={"document": run})
    selecting.context = replace(selecting.context, config=config)
    chosen = {e.id for e in (await selecting.choose()).episodes}
    assert present <= chosen
    assert len(chosen & earlier) == again
