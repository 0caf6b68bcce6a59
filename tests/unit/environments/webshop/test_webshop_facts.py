"""What the miner learns from an episode's text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distillery.environments.base import Fact
from distillery.hints.extractors.rules import find_preconditions, find_reward_conditions
from distillery_webshop import pages
from distillery_webshop.facts import PURCHASE, read_facts
from distillery_webshop.products import Listing, Product

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
OPENING = pages.render_search_page(WISH).text
ITEM = pages.render_product_page(WISH, LAMP, attributes=False).text
REFUSED = "Invalid action!"

Turn = tuple[str, str]
FOUND: Turn = ("search[lamp]", pages.render_result_page(WISH, 1, 1, [Listing("B000000001", "oak lamp", "$20.0")]).text)
OPENED: Turn = ("click[B000000001]", ITEM)
FEATURES: Turn = ("click[Features]", pages.render_text_page(WISH, LAMP, "Features").text)
BACK: Turn = ("click[< Prev]", ITEM)
RETURNED: Turn = ("click[< Prev]", FOUND[1])
TEAL: Turn = ("click[teal]", ITEM)
NINE: Turn = ("click[9]", ITEM)


def bought(score: float) -> Turn:
    return ("click[Buy Now]", pages.render_last_page(LAMP, {}, score).text)


def facts(*turns: Turn) -> list[tuple[str, str]]:
    return [(fact.kind, fact.thing) for fact in read_facts(OPENING, turns)]


def last(*turns: Turn) -> Fact:
    return read_facts(OPENING, turns)[-1]


def test_facts_name_the_subject_of_commands() -> None:
    assert facts(FOUND, OPENED, FEATURES, BACK, TEAL, bought(1.0))[:-1] == [
        ("accepted", "search"),
        ("accepted", "click a product"),
        ("accepted", "click features"),
        ("accepted", "click < prev"),
        ("accepted", "click an option"),
        ("accepted", "click buy now"),
    ]


def test_thoughts_and_gibberish_are_not_commands() -> None:
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
def test_refusal_has_its_page_as_a_condition(turns: list[Turn], where: str) -> None:
    assert last(*turns, ("click[blue]", REFUSED)) == Fact("refused", "click an option", conditions=frozenset({where}))


def test_refusal_does_not_change_the_page() -> None:
    fact = last(FOUND, ("search[lamp]", REFUSED), OPENED)
    assert fact.conditions == {"on a page of results", "the button is on the page"}


def test_button_is_found_in_any_case() -> None:
    assert "the button is on the page" in last(FOUND, OPENED, ("click[buy  NOW]", REFUSED)).conditions


@pytest.mark.parametrize("score", [1.0, 2 / 3, 0.0])
def test_purchase_has_its_score(score: float) -> None:
    fact = last(FOUND, OPENED, bought(score))
    assert (fact.kind, fact.thing, fact.score) == ("scored", PURCHASE, score)


def test_no_score_without_a_purchase() -> None:
    assert not [fact for fact in read_facts(OPENING, [FOUND, OPENED, ("click[Buy]", REFUSED)]) if fact.kind == "scored"]


@pytest.mark.parametrize("score", ["oops", "", "nan", "-1", "1.0.0", "1e9999", None])
def test_last_page_without_a_score_gives_none(score: str | None) -> None:
    page = pages.SEPARATOR.join([pages.THANKS, "x", pages.SCORE, *([score] if score is not None else [])])
    assert facts(FOUND, ("click[buy now]", page))[-1] == ("accepted", "click buy now")


@pytest.mark.parametrize("tag", ["$1.2.3", "$.", "$", "$..5", "$" + "9" * 5000, "$\u0663.\u0663\u00b2"])
def test_invalid_price_does_not_raise(tag: str) -> None:
    wish = f"a lamp, and price lower than {tag[1:]} dollars"
    item = ITEM.replace(WISH, wish).replace("$20.0", tag)
    opening = pages.render_search_page(wish).text
    assert read_facts(opening, [("click[B000000001]", item), bought(0.5)])[-1].kind == "scored"


OPTIONS_CHOSEN = "the options that the instruction names are chosen"


def test_options_are_chosen_when_all_of_them_are() -> None:
    assert OPTIONS_CHOSEN not in last(FOUND, OPENED, TEAL, bought(0.5)).conditions
    assert OPTIONS_CHOSEN in last(FOUND, OPENED, NINE, TEAL, bought(0.5)).conditions


def test_choices_are_forgotten_on_a_page_of_results() -> None:
    assert OPTIONS_CHOSEN not in last(FOUND, OPENED, NINE, TEAL, RETURNED, OPENED, bought(0.5)).conditions


def test_options_are_chosen_when_the_product_has_none() -> None:
    plain: Turn = (
        "click[B000000001]",
        pages.render_product_page(WISH, replace(LAMP, options={}), attributes=False).text,
    )
    assert OPTIONS_CHOSEN in last(FOUND, plain, bought(0.5)).conditions


@pytest.mark.parametrize(
    ("tag", "below"), [("$20.0", True), ("$30.0", True), ("$31.0", False), ("$9.0 to $31.0", False)]
)
def test_price_is_below_the_limit_when_the_whole_range_is(tag: str, below: bool) -> None:
    item = pages.render_product_page(WISH, replace(LAMP, price_tag=tag), attributes=False).text
    conditions = last(FOUND, ("click[B000000001]", item), bought(0.5)).conditions
    assert ("the price is below the limit" in conditions) is below


def test_description_was_read_only_of_its_own_product() -> None:
    read_it = "its description or features were read"
    assert read_it in last(FOUND, OPENED, FEATURES, BACK, bought(0.5)).conditions
    assert read_it not in last(FOUND, OPENED, FEATURES, BACK, RETURNED, OPENED, bought(0.5)).conditions


def test_rule_extractor_makes_hints_of_facts() -> None:
    good = [FOUND, OPENED, TEAL, NINE, bought(0.8)]
    bad = [FOUND, ("search[lamp]", REFUSED), OPENED, bought(0.4)]
    episodes = [(number, read_facts(OPENING, turns)) for number, turns in enumerate([good] * 3 + [bad] * 3)]
    assert [candidate.text for candidate in find_preconditions(episodes)] == ["search only when on the search page"]
    assert [
        (candidate.category, candidate.text)
        for candidate in find_reward_conditions(episodes, [], dict.fromkeys(range(6), "furniture"))
    ] == [
        ("furniture", "buy only when the options that the instruction names are chosen"),
    ]
