"""WebShop as the stages use it: catalog, pool, sessions, facts, on generated products and instructions."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import Observation, Task
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentPool, PooledSession
from distillery_webshop import prompts
from distillery_webshop.environment import WebShop
from distillery_webshop.goals import Goal
from distillery_webshop.products import CATEGORIES

OPTIONS = {"catalog": "generated", "seed": 1}
SYNTHETIC = OPTIONS | {"goals": "synthetic"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("shop"), OPTIONS)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("synthetic"), SYNTHETIC)


def prepared(folder: Path, options: dict[str, Any]) -> Path:
    WebShop(options, folder).prepare({"train": 100, "test": 50})
    return folder


def goal_of(folder: Path, options: dict[str, Any], task: Task) -> Goal:
    return WebShop(options, folder)._shop.goals[int(task.id.split("_")[1])]


async def shop_for(goal: Goal, session: PooledSession) -> Observation:
    """A scripted shopper, who reads what an agent reads, and knows which attributes and options count.

    He looks at the products in the order of the results, at the features of each, and buys the first that has all.
    """
    options = list(goal.options.values()) if isinstance(goal.options, dict) else list(goal.options)
    words = re.sub(r", and price lower.*", "", goal.instruction)
    observation = await session.step(f"search[{words}]")
    while True:
        page = observation
        parts = page.text.split(" [SEP] ")
        listings = parts[parts.index("Next >") + 1 :]
        for asin, title, price in zip(listings[::3], listings[1::3], listings[2::3], strict=True):
            if float(price.rpartition("$")[2]) > goal.price_limit:
                continue
            item = await session.step(f"click[{asin}]")
            if all(f"click[{value}]" in item.admissible for value in options):
                texts = title + (await session.step("click[features]")).text.partition("< Prev")[2]
                await session.step("click[< prev]")
                if all(attribute in texts.lower() for attribute in goal.attributes) and same_kind(goal, title):
                    for value in options:
                        await session.step(f"click[{value}]")
                    return await session.step("click[buy now]")
            await session.step("click[< prev]")
        if not listings:
            return page
        observation = await session.step("click[next >]")


def same_kind(goal: Goal, title: str) -> bool:
    """Whether the instruction holds the last word before the model's number."""
    before = re.split(r" [A-Z]{2}\d+,", title)[0].lower().split()
    return before[-1] in goal.instruction


@pytest.mark.parametrize("goals", ["human", "synthetic"])
async def test_pool_wins_many_concurrent_sessions(goals: str, shop: Path, synthetic: Path) -> None:
    folder, options = (shop, OPTIONS) if goals == "human" else (synthetic, SYNTHETIC)
    tasks = WebShop(options, folder).catalog("test")[:50]
    assert {task.category for task in tasks} == set(CATEGORIES.values())
    async with EnvironmentPool(EnvironmentConfig("webshop", options, folder), processes=2, step_timeout=120) as pool:

        async def win(task: Task) -> Observation:
            session, opening = await pool.open(task)
            assert opening.text == f"WebShop [SEP] Instruction: [SEP] {task.goal} [SEP] Search"
            try:
                return await shop_for(goal_of(folder, options, task), session)
            finally:
                await session.close()

        ends = await asyncio.gather(*map(win, tasks))
    assert [(end.score, end.done, end.success) for end in ends] == [(1.0, True, True)] * 50


async def test_goal_is_reached_by_its_own_product(shop: Path) -> None:
    environment = WebShop(OPTIONS, shop)
    for task in environment.catalog("dev")[:100]:
        goal = goal_of(shop, OPTIONS, task)
        session = environment.open(task)
        session.step(f"search[{environment._shop.read_product(goal.product).title}]")
        session.step(f"click[{goal.asin}]")
        for value in goal.options:
            assert session.step(f"click[{value}]").valid
        assert session.step("click[buy now]").success


async def test_session_continues_when_its_process_is_killed(shop: Path) -> None:
    task = WebShop(OPTIONS, shop).catalog("test")[0]
    async with EnvironmentPool(EnvironmentConfig("webshop", OPTIONS, shop), processes=1, step_timeout=120) as pool:
        session, _ = await pool.open(task)
        results = await session.step(f"search[{task.goal}]")
        await session.step(results.admissible[-1])
        process = await pool._slots[0].get_process()
        process._process.kill()
        await process._reading
        assert (await session.step("click[buy now]")).done


def test_splits_and_ids_equal_those_of_the_original(shop: Path) -> None:
    environment = WebShop(OPTIONS, shop)
    ids = [task.id for split in ("test", "dev", "train") for task in environment.catalog(split)]
    assert [task_id.rpartition("_")[0] for task_id in ids] == [f"fixed_{number}" for number in range(len(ids))]


def test_open_refuses_a_task_of_another_shop(shop: Path) -> None:
    with pytest.raises(LookupError, match="isn't one of generated shop"):
        WebShop(OPTIONS, shop).open(Task("fixed_0_B000000000", "test", "food", ""))


@pytest.mark.parametrize("shown", [1, 3])
def test_option_shown_limits_the_products_of_a_page(shop: Path, shown: int) -> None:
    environment = WebShop(OPTIONS | {"shown": shown}, shop)
    session = environment.open(environment.catalog("test")[0])
    assert session.step("search[lamp shoes coffee]").text.count("$") == shown


def test_facts_agree_with_the_purchase(shop: Path) -> None:
    environment = WebShop(OPTIONS, shop)
    task = next(task for task in environment.catalog("train") if len(goal_of(shop, OPTIONS, task).options) == 2)
    goal = goal_of(shop, OPTIONS, task)
    session = environment.open(task)
    opening = session.reset().text
    title = environment._shop.read_product(goal.product).title
    commands = [f"search[{title}]", "search[more]", f"click[{goal.asin}]", *(f"click[{v}]" for v in goal.options)]
    turns = [(command, session.step(command).text) for command in [*commands, "click[buy now]"]]
    facts = environment.read(opening, turns)
    assert [(fact.kind, fact.thing) for fact in facts if fact.thing in ("search", "buy")] == [
        ("accepted", "search"),
        ("refused", "search"),
        ("scored", "buy"),
    ]
    assert facts[-1].conditions >= {"the options that the instruction names are chosen"}
    assert facts[-1].score == 1.0


@pytest.fixture(scope="module")
def examples_shop(tmp_path_factory: pytest.TempPathFactory) -> WebShop:
    options = {"catalog": "generated", "seed": prompts.EXAMPLES_SEED, "products": prompts.EXAMPLES_PRODUCTS}
    environment = WebShop(options, tmp_path_factory.mktemp("examples"))
    environment.prepare({})
    return environment


@pytest.mark.parametrize("category", sorted(CATEGORIES.values()))
def test_examples_succeed_when_they_are_shopped_again(examples_shop: WebShop, category: str) -> None:
    goals = [task for split in ("test", "dev", "train") for task in examples_shop.catalog(split)]
    for example in examples_shop.examples(category):
        (task,) = [task for task in goals if f" [SEP] {task.goal} [SEP] " in example.opening]
        assert task.category == category
        session = examples_shop.open(task)
        assert session.reset().text == example.opening
        observations = [session.step(turn.action) for turn in example.turns]
        assert [observation.text for observation in observations] == [turn.observation for turn in example.turns]
        assert observations[-1].success
