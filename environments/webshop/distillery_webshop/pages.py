"""The pages of the shop: what an agent reads, and what it can click.

A page's text is what the original shows of its HTML: the visible strings, joined by ``[SEP]``. The tests don't have the
original; when this was written, both were played side by side for 52,000 steps, and texts, buttons and rewards were the
same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distillery_webshop.products import Listing, Product

SEPARATOR = " [SEP] "
RESULTS_PER_PAGE = 10

BACK_TO_SEARCH, NEXT, PREVIOUS, BUY = "Back to Search", "Next >", "< Prev", "Buy Now"
DESCRIPTION, FEATURES, REVIEWS, ATTRIBUTES = "Description", "Features", "Reviews", "Attributes"

SCORE = "Your score (min 0.0, max 1.0)"
THANKS = "Thank you for shopping with us!"
INSTRUCTION = "Instruction:"
SHOP = "WebShop"

_BLANKS = " \n\t\f\r"


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        text: what is read.
        buttons: what can be clicked, as it is shown, in the original's order; without products and options.
        products: the products that can be clicked, by place.
        options: the values that can be clicked, each with the name of its option.
        searchable: it has a search bar.
    """

    text: str
    buttons: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    searchable: bool = False

    def list_clickable(self) -> list[str]:
        """Return all that can be clicked, in lower case, in the original's order."""
        shown = [*self.buttons, *self.products, *(value for _, value in self.options)]
        return list(dict.fromkeys(text.lower() for text in shown))


def render_search_page(instruction: str) -> Page:
    """Return the first page of a session."""
    return Page(_join([SHOP, INSTRUCTION, instruction, "Search"]), searchable=True)


def render_result_page(instruction: str, number: int, total: int, shown: Sequence[Listing]) -> Page:
    """Return a page of results, from 1. There is always a next one, be it empty."""
    buttons = (BACK_TO_SEARCH, *([PREVIOUS] if number > 1 else []), NEXT)
    header = [INSTRUCTION, instruction, BACK_TO_SEARCH, f"Page {number} (Total results: {total})", *buttons[1:]]
    listings = [text for product in shown for text in (product.asin, product.title, product.price_tag)]
    return Page(_join([*header, *listings]), buttons, products=tuple(product.asin for product in shown))


def render_product_page(instruction: str, product: Product, *, attributes: bool) -> Page:
    """Return a product with its options. With ``attributes`` there is a button for what the reward knows of it."""
    options = tuple((name, value) for name, values in product.options.items() for value in values)
    shown = [text for name, values in product.options.items() for text in (name, *values)]
    pages = (DESCRIPTION, FEATURES, REVIEWS, *([ATTRIBUTES] if attributes else []))
    facts = [product.title, f"Price: {product.price_tag}", "Rating: N.A."]
    texts = [INSTRUCTION, instruction, BACK_TO_SEARCH, PREVIOUS, *shown, *facts, *pages, BUY]
    return Page(_join(texts), (BACK_TO_SEARCH, PREVIOUS, *pages, BUY), options=options)


def render_text_page(instruction: str, product: Product, button: str) -> Page:
    """Return the page behind a product's button Description, Features, Reviews or Attributes. There are no reviews."""
    contents: Mapping[str, Sequence[str]] = {
        DESCRIPTION: [product.description],
        FEATURES: [f" {feature}" for feature in product.features],
        REVIEWS: [],
        ATTRIBUTES: [*product.attributes, product.category, product.query, product.path],
    }
    buttons = (BACK_TO_SEARCH, PREVIOUS)
    return Page(_join([INSTRUCTION, instruction, *buttons, *contents[button]]), buttons)


def render_last_page(product: Product, options: Mapping[str, str], reward: float) -> Page:
    """Return the page after the purchase. The original's was made for people who were paid; most of it stays empty."""
    chosen = json.dumps(options, sort_keys=True)
    for character in "<>&'":
        chosen = chosen.replace(character, f"\\u{ord(character):04x}")
    bought = ["asin", product.asin, "options", chosen, "attrs", "None", "category", "None", "query", "None"]
    target = ["asin", "options", "attrs", "price upper", "instuction text", "category", "product category", "query"]
    return Page(
        _join(
            [
                *(THANKS, "Your code:", "None", "(Paste it in your MTurk interface.)"),
                *("Purchased", *bought, "product category", "None"),
                *("Target", *target, "Goal", "None"),
                *("Reward", SCORE, str(reward), "Reward Details", "None"),
            ]
        )
    )


def _join(texts: Iterable[str]) -> str:
    return SEPARATOR.join(part for text in texts for part in _find_visible(text))


def _find_visible(text: str) -> list[str]:
    """Return a string as the original's HTML parser does: nothing where it is empty or only new lines."""
    if not text.strip(_BLANKS):
        return [""] if text and "\n" not in text else []
    return [text.strip()]
