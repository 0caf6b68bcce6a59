"""What the generated shop sells."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from distillery.environments.webshop import colours, generator
from distillery.environments.webshop.products import CATEGORIES, read_product
from distillery.environments.webshop.reward import alike
from distillery.environments.webshop.wares import Ware, wares


def test_there_are_as_many_kinds_in_each_category() -> None:
    assert Counter(ware.category for ware in wares()) == dict.fromkeys(CATEGORIES, 8)


def test_no_two_kinds_are_called_the_same() -> None:
    assert len({ware.name for ware in wares()}) == len(wares())


@pytest.mark.parametrize("ware", wares(), ids=lambda ware: ware.name)
def test_every_option_can_be_met_whether_it_is_wanted_by_name_or_not(ware: Ware) -> None:
    for name, values in ware.options.items():
        for value in values:
            chosen = colours.normalise(value)
            assert alike(chosen, chosen)
            assert alike(chosen, colours.normalise((name, value)))  # not so for "wired", which holds red


def test_products_are_those_that_the_shop_reads() -> None:
    for index in range(80):
        made = generator.make(0, index)
        found = read_product(made.product, made.attributes["attributes"], seed=0)
        assert found is not None
        assert len(found.options) == 2
        assert all(len(values) >= 2 for values in found.options.values())


def test_instructions_ask_for_what_the_product_has() -> None:
    for index in range(80):
        made = generator.make(0, index)
        values = {value["value"] for values in made.product["customization_options"].values() for value in values}
        assert len(made.instructions) == 4
        for written in made.instructions:
            assert set(written["instruction_attributes"]) <= set(made.attributes["attributes"])
            assert set(written["instruction_options"]) <= values
            assert all(text in written["instruction"] for text in written["instruction_options"])
            assert all(text in written["instruction"] for text in written["instruction_attributes"])


def test_numbers_of_products_look_like_the_originals_and_come_once() -> None:
    numbers = [generator.make(3, index).product["asin"] for index in range(500)]
    assert all(re.fullmatch("B0[0-9A-Z]{8}", number) for number in numbers)
    assert len(set(numbers)) == 500


@pytest.mark.parametrize(
    ("wanted", "products"),
    [({}, 400), ({"train": 800, "test": 100}, 400), ({"train": 1200}, 600), ({"test": 9999}, 750)],
)
def test_as_many_products_are_made_as_the_tasks_need(wanted: dict[str, int], products: int) -> None:
    assert generator.enough_for(wanted) == products
