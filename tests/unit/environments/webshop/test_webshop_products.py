"""How entries of ``items_shuffle`` become products."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.environments.webshop.products import Product, listing, product, read_product

RAW = {
    "asin": "B000000001",
    "name": "Oak Lamp",
    "full_description": "Warm light.",
    "pricing": "$20.50",
    "images": [""],
    "product_category": "Home › Lamps",
    "small_description": ["Solid oak", "No tools"],
    "customization_options": {"Color": [{"value": " Dark/Light "}, {"value": "TEAL"}], "Size": None},
    "category": "garden",
    "query": " Table Lamps",
}


def read(**changes: Any) -> Product:
    found = read_product(RAW | changes, ["easy install"], seed=0)
    assert found is not None
    return found


def test_an_entry_is_taken_as_the_pages_show_it() -> None:
    assert read() == Product(
        asin="B000000001",
        title="Oak Lamp",
        price_tag="$20.5",
        description="Warm light.",
        features=("Solid oak", "No tools"),
        options={"color": ("dark | light", "teal")},
        attributes=("easy install",),
        price=20.5,
        query="table lamps",
        path="Home › Lamps",
        category="garden",
    )


@pytest.mark.parametrize("pricing", ["", None])
def test_a_product_without_a_price_costs_100(pricing: str | None) -> None:
    assert (read(pricing=pricing).price_tag, read(pricing=pricing).price) == ("$100.0", 100.0)


def test_thousands_are_read() -> None:
    assert read(pricing="$1,877.80").price == 1877.8


def test_a_range_is_shown_whole_and_reckoned_with_a_price_within() -> None:
    found = read(pricing="$16.99 to $26.00")
    assert found.price_tag == "$16.99 to $26.0"
    assert 16.99 <= found.price <= 26


def test_the_price_in_a_range_is_the_same_each_time_and_another_for_another_seed() -> None:
    raw = RAW | {"pricing": "$10 - $90"}
    prices = [found.price for seed in (0, 0, 1) if (found := read_product(raw, None, seed))]
    assert prices[0] == prices[1] != prices[2]


@pytest.mark.parametrize("options", ["", None, {}])
def test_a_product_may_have_no_options(options: Any) -> None:
    assert read(customization_options=options).options == {}


def test_one_feature_may_stand_without_a_list() -> None:
    assert read(small_description="Solid oak").features == ("Solid oak",)


@pytest.mark.parametrize("asin", ["nan", "B0000000012"])
def test_products_with_a_strange_number_are_left_out(asin: str) -> None:
    assert read_product(RAW | {"asin": asin}, None, seed=0) is None


def test_an_unknown_category_is_named() -> None:
    with pytest.raises(ValueError, match="'toys'"):
        read(category="toys")


def test_a_product_that_the_file_of_attributes_leaves_out_has_the_originals_dummy() -> None:
    found = read_product(RAW, None, seed=0)
    assert found is not None
    assert found.attributes == ("DUMMY_ATTR",)


def test_the_document_is_title_description_first_feature_and_options() -> None:
    document = read(customization_options={"Color": [{"value": "red"}, {"value": "teal"}], "Size": [{"value": "9"}]})
    assert document.document() == "oak lamp warm light. solid oak color: red, teal, and size: 9"


def test_a_product_survives_its_records() -> None:
    found = read()
    records = found.records()
    assert product(*records) == found
    assert listing(records[0]).title == "Oak Lamp"


def test_half_a_character_becomes_a_question_mark() -> None:
    assert product(*read(name="Lamp \ud83d").records()).title == "Lamp ?"
