"""What the miner learns from an episode's text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distillery.environments.base import Fact
from distillery.environments.webshop import pages
from distillery.environments.webshop.products import Listing, Product
from distillery.environments.webshop.reading import PURCHASE, read
from distillery.hints.extractors.rules import gains, preconditions

WISH = "i want a teal lamp in size 9, and price lower than 30.00 dollars"
LAMP = Product(
    asin="B000000001",
    title="oak lamp",
    price_tag="$20.0",
    description="warm",
    features=("solid",),
    options={"color": ("red", "teal"), "size": ("9", "10")},
    attributes=(),
    price=20.0,
    query="lamps",
    path="",
    category="garden",
)
OPENING = pages.search_page(WISH).text
ITEM = pages.product_page(WISH, LAMP, attributes=False).text
REFUSED = "Invalid action!"

Turn = tuple[str, str]
FOUND: Turn = ("search[lamp]", pages.result_page(WISH, 1, 1, [Listing("B000000001", "oak lamp", "$20.0")]).text)
OPENED: Turn = ("click[B000000001]", ITEM)
FEATURES: Turn = ("click[Features]", pages.text_page(WISH, LAMP, "Features").text)
BACK: Turn = ("click[< Prev]", ITEM)
RETURNED: Turn = ("click[< Prev]", FOUND[1])
TEAL: Turn = ("click[teal]", ITEM)
NINE: Turn = ("click[9]", ITEM)


def bought(score: float) -> Turn:
    return ("click[Buy Now]", pages.last_page(LAMP, {}, score).text)


def facts(*turns: Turn) -> list[tuple[str, str]]:
    return [(fact.kind, fact.thing) for fact in read(OPENING, turns)]


def last(*turns: Turn) -> Fact:
    return read(OPENING, turns)[-1]


def test_commands_are_read_by_what_they_are_about() -> None:
    assert facts(FOUND, OPENED, FEATURES, BACK, TEAL, bought(1.0))[:-1] == [
        ("accepted", "search"),
        ("accepted", "click a product"),
        ("accepted", "click features"),
        ("accepted", "click < prev"),
        ("accepted", "click an option"),
        ("accepted", "click buy now"),
    ]


def test_thoughts_and_gibberish_are_no_commands() -> None:
    assert facts(("think: where?", "OK."), ("think[where?]", REFUSED), ("", REFUSED)) == []


@pytest.mark.parametrize(
    ("turns", "where"),
    [
        ([], "on the search page"),
        ([FOUND], "on a page of results"),
        ([FOUND, OPENED], "on a product's page"),
        ([FOUND, OPENED, FEATURES], "on a product's text"),
    ],
)
def test_a_refusal_tells_where_it_was(turns: list[Turn], where: str) -> None:
    assert last(*turns, ("click[blue]", REFUSED)) == Fact("refused", "click an option", conditions=frozenset({where}))


def test_a_refusal_leads_nowhere() -> None:
    fact = last(FOUND, ("search[lamp]", REFUSED), OPENED)
    assert fact.conditions == {"on a page of results", "the button is on the page"}


def test_a_button_is_on_the_page_whatever_its_case() -> None:
    assert "the button is on the page" in last(FOUND, OPENED, ("click[buy  NOW]", REFUSED)).conditions


@pytest.mark.parametrize("score", [1.0, 2 / 3, 0.0])
def test_a_purchase_tells_what_it_was_worth(score: float) -> None:
    fact = last(FOUND, OPENED, bought(score))
    assert (fact.kind, fact.thing, fact.score) == ("scored", PURCHASE, score)


def test_what_was_not_bought_scores_nothing() -> None:
    assert not [fact for fact in read(OPENING, [FOUND, OPENED, ("click[Buy]", REFUSED)]) if fact.kind == "scored"]


@pytest.mark.parametrize("told", ["oops", "", "nan", "-1", "1.0.0", "1e9999", None])
def test_a_page_that_tells_no_score_is_read_without_one(told: str | None) -> None:
    page = pages.SEPARATOR.join([pages.THANKS, "x", pages.SCORE, *([told] if told is not None else [])])
    assert facts(FOUND, ("click[buy now]", page))[-1] == ("accepted", "click buy now")


@pytest.mark.parametrize("tag", ["$1.2.3", "$.", "$", "$..5", "$" + "9" * 5000, "$\u0663.\u0663\u00b2"])
def test_a_price_that_is_none_is_read_without_harm(tag: str) -> None:
    wish = f"a lamp, and price lower than {tag[1:]} dollars"
    item = ITEM.replace(WISH, wish).replace("$20.0", tag)
    opening = pages.search_page(wish).text
    assert read(opening, [("click[B000000001]", item), bought(0.5)])[-1].kind == "scored"


OPTIONS_CHOSEN = "the options that the instruction names are chosen"


def test_the_options_of_the_instruction_are_chosen_once_all_of_them_are() -> None:
    assert OPTIONS_CHOSEN not in last(FOUND, OPENED, TEAL, bought(0.5)).conditions
    assert OPTIONS_CHOSEN in last(FOUND, OPENED, NINE, TEAL, bought(0.5)).conditions


def test_choices_are_forgotten_on_the_way_over_the_results() -> None:
    assert OPTIONS_CHOSEN not in last(FOUND, OPENED, NINE, TEAL, RETURNED, OPENED, bought(0.5)).conditions


def test_a_product_without_fitting_options_needs_none() -> None:
    plain: Turn = ("click[B000000001]", pages.product_page(WISH, replace(LAMP, options={}), attributes=False).text)
    assert OPTIONS_CHOSEN in last(FOUND, plain, bought(0.5)).conditions


@pytest.mark.parametrize(
    ("tag", "below"), [("$20.0", True), ("$30.0", True), ("$31.0", False), ("$9.0 to $31.0", False)]
)
def test_the_price_is_below_the_limit_by_all_that_is_shown_of_it(tag: str, below: bool) -> None:
    item = pages.product_page(WISH, replace(LAMP, price_tag=tag), attributes=False).text
    conditions = last(FOUND, ("click[B000000001]", item), bought(0.5)).conditions
    assert ("the price is below the limit" in conditions) is below


def test_reading_counts_for_the_product_that_was_read() -> None:
    read_it = "its description or features were read"
    assert read_it in last(FOUND, OPENED, FEATURES, BACK, bought(0.5)).conditions
    assert read_it not in last(FOUND, OPENED, FEATURES, BACK, RETURNED, OPENED, bought(0.5)).conditions


def test_the_miner_makes_hints_of_them() -> None:
    good = [FOUND, OPENED, TEAL, NINE, bought(0.8)]
    bad = [FOUND, ("search[lamp]", REFUSED), OPENED, bought(0.4)]
    episodes = [(number, read(OPENING, turns)) for number, turns in enumerate([good] * 3 + [bad] * 3)]
    assert [mention.text for mention in preconditions(episodes)] == ["search only when on the search page"]
    assert [
        (mention.category, mention.text) for mention in gains(episodes, [], dict.fromkeys(range(6), "furniture"))
    ] == [
        ("furniture", "buy only when the options that the instruction names are chosen"),
    ]
