"""What the generated shop sells."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from distillery_webshop import colors, generator
from distillery_webshop.product_types import ProductType, read_product_types
from distillery_webshop.products import CATEGORIES, read_product
from distillery_webshop.reward import is_similar


def test_categories_have_equally_many_product_types() -> None:
    assert Counter(product_type.category for product_type in read_product_types()) == dict.fromkeys(CATEGORIES, 8)


def test_product_types_have_distinct_names() -> None:
    assert len({product_type.name for product_type in read_product_types()}) == len(read_product_types())


@pytest.mark.parametrize("product_type", read_product_types(), ids=lambda product_type: product_type.name)
def test_option_is_met_with_and_without_its_name(product_type: ProductType) -> None:
    for name, values in product_type.options.items():
        for value in values:
            chosen = colors.find_color(value)
            assert is_similar(chosen, chosen)
            assert is_similar(chosen, colors.find_color((name, value)))  # not so for "wired", which holds red


def test_generated_products_are_readable() -> None:
    for index in range(80):
        made = generator.make_product(0, index)
        found = read_product(made.product, made.attributes["attributes"], seed=0)
        assert found is not None
        assert len(found.options) == 2
        assert all(len(values) >= 2 for values in found.options.values())


def test_instructions_fit_their_product() -> None:
    for index in range(80):
        made = generator.make_product(0, index)
        values = {value["value"] for values in made.product["customization_options"].values() for value in values}
        assert len(made.instructions) == 4
        for written in made.instructions:
            assert set(written["instruction_attributes"]) <= set(made.attributes["attributes"])
            assert set(written["instruction_options"]) <= values
            assert all(text in written["instruction"] for text in written["instruction_options"])
            assert all(text in written["instruction"] for text in written["instruction_attributes"])


def test_product_numbers_have_the_original_form_and_are_unique() -> None:
    numbers = [generator.make_product(3, index).product["asin"] for index in range(500)]
    assert all(re.fullmatch("B0[0-9A-Z]{8}", number) for number in numbers)
    assert len(set(numbers)) == 500


@pytest.mark.parametrize(
    ("wanted", "products"),
    [({}, 400), ({"train": 800, "test": 100}, 400), ({"train": 1200}, 600), ({"test": 9999}, 750)],
)
def test_count_products_returns_enough_for_the_tasks(wanted: dict[str, int], products: int) -> None:
    assert generator.count_products(wanted) == products
