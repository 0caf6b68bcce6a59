"""What the pages show, and what can be clicked on them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distillery_webshop.pages import (
    render_last_page,
    render_product_page,
    render_result_page,
    render_search_page,
    render_text_page,
)
from distillery_webshop.products import Listing, Product

WISH = "i want a lamp"
PRODUCT = Product(
    asin="B000000001",
    title="Oak Lamp",
    price_tag="$20.0",
    description=" Warm light. ",
    features=("Solid oak ", "No tools"),
    options={"color": ("red", "teal"), "size": ("9",)},
    attributes=("easy install",),
    price=20.0,
    query="table lamps",
    path="Home › Lamps",
    category="garden",
)
LISTING = Listing("B000000001", "Oak Lamp", "$20.0")


def test_search_page_shows_the_instruction_and_no_button() -> None:
    page = render_search_page(WISH)
    assert page.text == "WebShop [SEP] Instruction: [SEP] i want a lamp [SEP] Search"
    assert (page.searchable, page.list_clickable()) == (True, [])


def test_first_result_page_has_no_previous_button() -> None:
    page = render_result_page(WISH, 1, 50, [LISTING])
    assert page.text == (
        "Instruction: [SEP] i want a lamp [SEP] Back to Search [SEP] Page 1 (Total results: 50) [SEP] Next > [SEP] "
        "B000000001 [SEP] Oak Lamp [SEP] $20.0"
    )
    assert page.list_clickable() == ["back to search", "next >", "b000000001"]


def test_later_result_page_has_a_previous_button() -> None:
    page = render_result_page(WISH, 2, 3, [])
    assert page.text == (
        "Instruction: [SEP] i want a lamp [SEP] Back to Search [SEP] Page 2 (Total results: 3) [SEP] < Prev [SEP] "
        "Next >"
    )
    assert page.list_clickable() == ["back to search", "< prev", "next >"]


def test_product_page_begins_with_the_options() -> None:
    page = render_product_page(WISH, PRODUCT, attributes=False)
    assert page.text == (
        "Instruction: [SEP] i want a lamp [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] teal [SEP] "
        "size [SEP] 9 [SEP] Oak Lamp [SEP] Price: $20.0 [SEP] Rating: N.A. [SEP] Description [SEP] Features [SEP] "
        "Reviews [SEP] Buy Now"
    )
    assert page.list_clickable() == [
        *("back to search", "< prev", "description", "features", "reviews", "buy now"),
        *("red", "teal", "9"),
    ]


def test_attributes_button_is_before_the_purchase_button() -> None:
    page = render_product_page(WISH, PRODUCT, attributes=True)
    assert page.text.endswith("Reviews [SEP] Attributes [SEP] Buy Now")


@pytest.mark.parametrize(
    ("button", "shown"),
    [
        ("Description", " [SEP] Warm light."),
        ("Features", " [SEP] Solid oak [SEP] No tools"),
        ("Reviews", ""),
        ("Attributes", " [SEP] easy install [SEP] garden [SEP] table lamps [SEP] Home › Lamps"),
    ],
)
def test_texts_of_a_product_have_their_own_pages(button: str, shown: str) -> None:
    page = render_text_page(WISH, PRODUCT, button)
    assert page.text == f"Instruction: [SEP] i want a lamp [SEP] Back to Search [SEP] < Prev{shown}"
    assert page.list_clickable() == ["back to search", "< prev"]


def test_last_page_shows_the_purchase_and_the_score() -> None:
    page = render_last_page(PRODUCT, {"size": "9", "color": "red's"}, 2 / 3)
    assert page.text == (
        "Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it in your MTurk interface.) [SEP] "
        'Purchased [SEP] asin [SEP] B000000001 [SEP] options [SEP] {"color": "red\\u0027s", "size": "9"} [SEP] attrs '
        "[SEP] None [SEP] category [SEP] None [SEP] query [SEP] None [SEP] product category [SEP] None [SEP] Target "
        "[SEP] asin [SEP] options [SEP] attrs [SEP] price upper [SEP] instuction text [SEP] category [SEP] product "
        "category [SEP] query [SEP] Goal [SEP] None [SEP] Reward [SEP] Your score (min 0.0, max 1.0) [SEP] "
        "0.6666666666666666 [SEP] Reward Details [SEP] None"
    )
    assert page.list_clickable() == []


def test_blank_feature_leaves_an_empty_text() -> None:
    page = render_text_page(WISH, replace(PRODUCT, features=("", "Oak", "\n")), "Features")
    assert page.text.endswith("< Prev [SEP]  [SEP] Oak")


def test_product_without_a_description_has_an_empty_page() -> None:
    assert render_text_page(WISH, replace(PRODUCT, description=""), "Description").text.endswith("< Prev")
