"""How entries of ``items_shuffle`` become products."""

from __future__ import annotations

from typing import Any

import pytest

from distillery_webshop.products import Product, read_listing, read_product, read_record

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


def test_entry_is_read_as_the_pages_show_it() -> None:
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
def test_product_without_a_price_costs_100(pricing: str | None) -> None:
    assert (read(pricing=pricing).price_tag, read(pricing=pricing).price) == ("$100.0", 100.0)


def test_price_with_a_thousands_separator_is_read() -> None:
    assert read(pricing="$1,877.80").price == 1877.8


def test_price_range_is_shown_and_a_price_within_is_drawn() -> None:
    found = read(pricing="$16.99 to $26.00")
    assert found.price_tag == "$16.99 to $26.0"
    assert 16.99 <= found.price <= 26


def test_price_in_a_range_depends_on_the_seed_only() -> None:
    raw = RAW | {"pricing": "$10 - $90"}
    prices = [found.price for seed in (0, 0, 1) if (found := read_product(raw, None, seed))]
    assert prices[0] == prices[1] != prices[2]


@pytest.mark.parametrize("options", ["", None, {}])
def test_product_can_have_no_options(options: Any) -> None:
    assert read(customization_options=options).options == {}


def test_single_feature_can_be_a_text() -> None:
    assert read(small_description="Solid oak").features == ("Solid oak",)


@pytest.mark.parametrize("asin", ["nan", "B0000000012"])
def test_product_with_an_invalid_number_is_left_out(asin: str) -> None:
    assert read_product(RAW | {"asin": asin}, None, seed=0) is None


def test_error_names_the_category_when_it_is_unknown() -> None:
    with pytest.raises(ValueError, match="'toys'"):
        read(category="toys")


def test_product_without_attributes_has_the_originals_placeholder() -> None:
    found = read_product(RAW, None, seed=0)
    assert found is not None
    assert found.attributes == ("DUMMY_ATTR",)


def test_document_has_title_description_feature_and_options() -> None:
    document = read(customization_options={"Color": [{"value": "red"}, {"value": "teal"}], "Size": [{"value": "9"}]})
    assert document.to_document() == "oak lamp warm light. solid oak color: red, teal, and size: 9"


def test_product_is_equal_after_a_round_trip() -> None:
    found = read()
    records = found.to_records()
    assert read_record(*records) == found
    assert read_listing(records[0]).title == "Oak Lamp"


def test_lone_surrogate_becomes_a_question_mark() -> None:
    assert read_record(*read(name="Lamp \ud83d").to_records()).title == "Lamp ?"
