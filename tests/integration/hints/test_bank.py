"""The hint bank on a real pgvector, with real embeddings."""

from __future__ import annotations

import argparse

import pytest

from distillery.cli.commands import hints as command
from distillery.core import plugins
from distillery.core.api import parse
from distillery.database import Database
from distillery.database.episode_queue import EpisodeQueue, EpisodeRequest, Worker
from distillery.environments.base import Task
from distillery.hints.bank import HintBank
from distillery.hints.base import HintCandidate
from tests.fakes.agents import task
from tests.unit.documents import document

PUT = [
    "look for a mug in coffeemachine, countertop",
    "look for a pencil in desk, drawer",
    "look for a soapbar in bathtubbasin, sinkbasin",
    "look for a pillow in bed, sofa",
]


@pytest.fixture
async def episodes(database: Database, run_id: int) -> list[int]:
    queue = EpisodeQueue(database, run_id, round=1, arms=["own"], worker=Worker("w", 60))
    await queue.enqueue(EpisodeRequest(task(number), "own") for number in range(5))
    return [lease.episode_id for lease in await queue.lease(5)]


def bank(database: Database, name: str = "default/test", agent: str = "plain") -> HintBank:
    return HintBank(database, bank=name, environment="alfworld", agent=agent)


async def add(to: HintBank, *candidates: HintCandidate) -> dict[str, int]:
    return await to.add(candidates, round=1, extractor="rules", model="", similarity=0.85)


async def retrieve(name: str, database: Database, goal: str, category: str = "put", k: int = 2) -> list[str]:
    wanted = Task("t", "train", category, goal)
    (found,) = await plugins.load("retrievers", name)(bank(database)).retrieve([wanted], k=k)
    return [hint.text for hint in found]


async def test_retrieve_returns_the_hint_that_is_nearest_to_the_task(database: Database, episodes: list[int]):
    await add(bank(database), *(HintCandidate("put", text, (episodes[0],), text) for text in PUT))
    assert (await retrieve("embedding", database, "put a clean mug in shelf", k=1)) == [PUT[0]]
    assert (await retrieve("embedding", database, "put two pillow in armchair", k=1)) == [PUT[3]]


async def test_retrieve_takes_a_goal_of_any_length(database: Database, episodes: list[int]):
    await add(bank(database), *(HintCandidate("put", text, (episodes[0],), text) for text in PUT))
    page = "put two pillow in armchair. " + " ".join(f"{number:x}" for number in range(4000))  # barely compressible
    assert len(page) > 15_000
    for _ in range(2):  # computed, then found
        assert (await retrieve("embedding", database, page, k=1)) == [PUT[3]]
    assert await database.fetch("SELECT count(*) AS n FROM embedding WHERE length(sha256) = 32") == [{"n": 5}]


@pytest.mark.parametrize("terminal", [True, False])
async def test_command_hints_prints_whole_hints_when_columns_are_few(
    terminal: bool, database: Database, dsn: str, run_id: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    text = "look for a pillow in coffeetable, countertop, bathtubbasin and in every drawer of the bedroom"
    await database.execute(
        """INSERT INTO hint (bank, environment, agent, category, text, round, extractor, embedding)
           VALUES ('default/test', 'alfworld', %s, 'put', %s, 1, 'rules', %s::halfvec)""",
        parse(document()).spec.agent.name, text, str([0.5] * 384),
    )  # fmt: skip
    monkeypatch.setenv("DISTILLERY_DATABASE_URL", dsn)
    monkeypatch.setenv("COLUMNS", "80")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    await command.show_hints(argparse.Namespace(run="test", limit=30, json=False))
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "pillow" in shown
    assert terminal or text in shown


async def test_hints_of_other_categories_are_not_retrieved(database: Database, episodes: list[int]):
    await add(
        bank(database),
        HintCandidate("heat", "heat the mug in the microwave", (episodes[0],)),
        HintCandidate("", "look for a mug in desk", (episodes[0],)),
    )
    assert await retrieve("embedding", database, "put a mug in shelf") == ["look for a mug in desk"]
    assert await retrieve("mismatched", database, "put a mug in shelf") == ["heat the mug in the microwave"]


@pytest.mark.parametrize("few", [0, 5_000], ids=["by the index", "all compared"])
async def test_hints_of_a_rare_category_are_all_retrieved(
    database: Database, episodes: list[int], few: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("distillery.database.hints._MAX_EXACT", few)
    crowd = [
        HintCandidate("put", f"look for thing number {n} in place {n % 7}", (episodes[0],), f"s{n}") for n in range(400)
    ]
    rare = [HintCandidate("cool", f"cool the thing {n} in the fridge", (episodes[0],), f"r{n}") for n in range(3)]
    await add(bank(database), *crowd, *rare)
    assert len(await retrieve("embedding", database, "look for thing number 3", "cool", k=3)) == 3


async def test_retrieve_finds_no_hint_of_another_bank_or_agent(database: Database, episodes: list[int]):
    await add(bank(database, agent="react"), HintCandidate("put", PUT[0], (episodes[0],)))
    await add(bank(database, name="other/run"), HintCandidate("put", PUT[1], (episodes[0],)))
    assert await bank(database).all() == []


async def test_add_counts_each_episode_once_when_a_hint_is_added_again(database: Database, episodes: list[int]):
    first = await add(bank(database), HintCandidate("put", PUT[0], tuple(episodes[:2])))
    assert await add(bank(database), HintCandidate("put", PUT[0], tuple(episodes[:2]))) == first
    await add(bank(database), HintCandidate("put", PUT[0], tuple(episodes)))
    rows = await database.fetch("SELECT support FROM hint")
    assert rows == [{"support": 5}]


async def test_retrieve_returns_the_duplicate_when_its_support_becomes_larger(database: Database, episodes: list[int]):
    one, two = "check every drawer before you leave the room", "check every drawers before you leave a room"
    await add(bank(database), HintCandidate("put", one, tuple(episodes[:2])))
    await add(bank(database), HintCandidate("put", two, tuple(episodes[:1])))
    assert await retrieve("frequent", database, "x") == [one]
    await add(bank(database), HintCandidate("put", two, tuple(episodes)))
    assert await retrieve("frequent", database, "x") == [two]


async def test_placebo_is_the_same_for_the_same_task(database: Database, episodes: list[int]):
    await add(bank(database), *(HintCandidate("put", text, (episodes[0],), text) for text in PUT))
    assert await retrieve("random", database, "x", k=3) == await retrieve("random", database, "y", k=3)


async def test_statistics_have_support_uses_success_round_and_extractor(
    database: Database, run_id: int, episodes: list[int]
):
    await add(
        bank(database), HintCandidate("put", PUT[0], tuple(episodes[:3])), HintCandidate("put", PUT[1], (episodes[0],))
    )
    ids = {hint.text: hint.id for hint in await bank(database).all()}
    for number, (text, success) in enumerate([(PUT[0], True), (PUT[0], False), (PUT[1], False)]):
        await database.execute(
            "UPDATE episode SET phase = 'finished', arm = 'teacher', success = %s, hint_ids = %s WHERE id = %s",
            success, [ids[text]], episodes[number],
        )  # fmt: skip
    first = (await bank(database).statistics(plays_alike=False))[0]
    assert (first["text"], first["support"], first["uses"]) == (PUT[0], 3, 2)
    assert (first["success_with"], first["success_without"]) == (0.5, 0.0)
    assert (first["round"], first["extractor"]) == (1, "rules")
