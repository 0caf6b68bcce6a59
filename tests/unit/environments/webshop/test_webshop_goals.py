"""How goals are made, ordered and split."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from distillery_webshop.goals import (
    NO_LIMIT,
    Goal,
    make_human_goals,
    make_synthetic_goals,
    read_goal,
    shuffle_goals,
    split_goals,
)
from distillery_webshop.products import Product

PRODUCT = Product(
    asin="B000000001",
    title="Oak Lamp",
    price_tag="$20.0",
    description="",
    features=(),
    options={"size": ("9", "10"), "color": ("red", "teal")},
    attributes=("easy install",),
    price=20.0,
    query="table lamps",
    path="",
    category="garden",
)
WRITTEN = {"instruction": "i want a lamp.", "instruction_attributes": ["easy install"], "instruction_options": ["red"]}
MADE = {"instruction": "Find me a lamp", "instruction_attributes": ["easy install"]}


def human(*written: dict[str, Any], price: float = 20.0, seed: int = 0) -> list[Goal]:
    return list(make_human_goals(3, replace(PRODUCT, price=price), written, seed))


def test_human_goal_is_the_instruction_with_the_limit() -> None:
    (goal,) = human(WRITTEN)
    assert goal.instruction == f"i want a lamp, and price lower than {goal.price_limit:.2f} dollars"
    assert (goal.product, goal.category, goal.attributes, goal.options) == (3, "furniture", ("easy install",), ("red",))


def test_human_goal_without_attributes_is_left_out() -> None:
    assert human(WRITTEN | {"instruction_attributes": []}) == []


def test_limit_is_one_of_the_next_four_multiples_of_ten() -> None:
    limits = {human(WRITTEN, seed=seed)[0].price_limit for seed in range(200)}
    assert limits == {40.0, 50.0, 60.0}  # of 30, 40, 50 and 60, the larger of two


@pytest.mark.parametrize(("price", "limits"), [(970.0, {990.0}), (969.0, {980.0, 990.0})])
def test_limit_is_990_at_most(price: float, limits: set[float]) -> None:
    assert {human(WRITTEN, price=price, seed=seed)[0].price_limit for seed in range(50)} == limits


def test_expensive_product_has_no_limit() -> None:
    (goal,) = human(WRITTEN, price=980.0)
    assert (goal.price_limit, goal.instruction) == (NO_LIMIT, "i want a lamp")


def test_combination_of_options_has_a_synthetic_goal() -> None:
    goals = list(make_synthetic_goals(0, PRODUCT, MADE, seed=0))
    assert [goal.options for goal in goals] == [
        {"color": "red", "size": "9"},
        {"color": "red", "size": "10"},
        {"color": "teal", "size": "9"},
        {"color": "teal", "size": "10"},
    ]
    limit = goals[0].price_limit
    assert goals[0].instruction == (
        f"Find me a lamp with color: red, and size: 9, and price lower than {limit:.2f} dollars"
    )
    assert {goal.price_limit for goal in goals} == {limit}


def test_product_without_options_has_one_synthetic_goal() -> None:
    (goal,) = make_synthetic_goals(0, replace(PRODUCT, options={}, price=980.0), MADE, seed=0)
    assert (goal.instruction, goal.options) == ("Find me a lamp", {})


@pytest.mark.parametrize("entry", [{}, {"attributes": []}, {"instruction": None}])
def test_product_without_an_instruction_has_no_synthetic_goal(entry: dict[str, Any]) -> None:
    assert list(make_synthetic_goals(0, PRODUCT, entry, seed=0)) == []


@pytest.mark.parametrize("goal", [human(WRITTEN)[0], next(make_synthetic_goals(0, PRODUCT, MADE, seed=0))])
def test_goal_is_equal_after_a_round_trip(goal: Goal) -> None:
    assert read_goal(goal.to_record()) == goal


def test_goals_are_shuffled_as_the_original_shuffles_them() -> None:
    letters = [str(number) for number in range(1000)]
    random.seed(233)
    random.shuffle(letters)
    assert [str(number) for number in shuffle_goals(1000)] == letters


@pytest.mark.parametrize("count", [3000, 12_087])
def test_many_goals_have_the_splits_of_the_original(count: int) -> None:
    assert split_goals(count) == {"train": range(1500, count), "dev": range(500, 1500), "test": range(500)}


@pytest.mark.parametrize(("count", "sizes"), [(13, (7, 4, 2)), (2999, (1501, 999, 499)), (0, (0, 0, 0))])
def test_few_goals_are_split_in_proportion(count: int, sizes: tuple[int, int, int]) -> None:
    found = split_goals(count)
    assert tuple(len(found[split]) for split in ("train", "dev", "test")) == sizes
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(count))
