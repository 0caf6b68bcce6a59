"""The reward, on cases worked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from distillery.environments.webshop import colours
from distillery.environments.webshop.goals import Goal
from distillery.environments.webshop.products import Product
from distillery.environments.webshop.reward import alike, count_attributes, count_options, reward, type_factor

PRODUCT = Product(
    asin="B000000001",
    title="lamp oak shade",
    price_tag="$20.0",
    description="Warm light, easy to clean.",
    features=("Made of Solid Oak", "No tools needed"),
    options={"color": ("teal", "plum"), "size": ("9", "10")},
    attributes=("easy install",),
    price=20.0,
    query="table lamps",
    path="Home › Lighting › Lamps",
    category="garden",
)
GOAL = Goal(0, "B000000001", "furniture", "a lamp", ("easy install",), ("teal", "9"), 30.0)


def nouns(title: str) -> Sequence[str]:
    """A fake tagger: every word is a noun."""
    return title.split()


def reward_of(chosen: Mapping[str, str], **goal: Any) -> float:
    """Of buying the wanted product."""
    return reward(PRODUCT, chosen, replace(GOAL, **goal), PRODUCT, nouns)


def test_the_wanted_product_with_all_that_is_wanted_is_worth_one() -> None:
    assert reward_of({"color": "teal", "size": "9"}) == 1.0


def test_an_option_that_is_not_chosen_costs_its_share() -> None:
    assert reward_of({"color": "teal"}) == pytest.approx(3 / 4)


def test_a_wrong_option_costs_as_much_as_none() -> None:
    assert reward_of({"color": "teal", "size": "10"}) == pytest.approx(3 / 4)


def test_a_missing_attribute_costs_its_share() -> None:
    goal = {"attributes": ("easy install", "battery powered")}
    assert reward_of({"color": "teal", "size": "9"}, **goal) == pytest.approx(4 / 5)


@pytest.mark.parametrize(("limit", "expected"), [(20.0, 1.0), (19.99, 3 / 4)])
def test_the_price_may_be_the_limit_and_no_more(limit: float, expected: float) -> None:
    assert reward_of({"color": "teal", "size": "9"}, price_limit=limit) == pytest.approx(expected)


def test_a_goal_without_options_asks_for_attributes_and_price() -> None:
    assert reward_of({}, options=(), attributes=("easy install", "silent")) == pytest.approx(2 / 3)


def test_the_type_scales_everything() -> None:
    other = replace(PRODUCT, title="oak", query="shades", path="Home")
    assert type_factor(other, replace(PRODUCT, title="oak a b c d e"), nouns) == 0.5
    wanted = replace(PRODUCT, title="oak a b c d e")
    assert reward(other, {"color": "teal"}, GOAL, wanted, nouns) == pytest.approx(0.5 * 3 / 4)


@pytest.mark.parametrize(
    ("bought", "expected"),
    [
        ({"title": "a"}, 0.5),  # one noun of six, another query, one level of two shared
        ({"title": "a", "query": "table lamps"}, 1.0),
        ({"title": "a", "path": "Lamps › Home"}, 1.0),
        ({"title": "a b"}, 1.0),  # a third of the nouns
        ({"title": "z", "query": "table lamps", "path": "Home › Lighting › Lamps"}, 0.0),
    ],
)
def test_the_type_is_told_by_query_levels_and_nouns(bought: Mapping[str, str], expected: float) -> None:
    wanted = replace(PRODUCT, title="a b c d e f")
    other = replace(PRODUCT, query="other", path="Home › Other")
    assert type_factor(replace(other, **dict(bought)), wanted, nouns) == expected


def test_nouns_of_the_wanted_title_count_as_often_as_they_stand_there() -> None:
    wanted = replace(PRODUCT, title="shoe " * 10 + "lamp")
    assert type_factor(replace(PRODUCT, title="lamp"), wanted, nouns) == 0.1  # 1 of 11, not 1 of 2


def test_less_than_a_tenth_of_the_nouns_is_worth_little_even_for_the_same_query() -> None:
    wanted = replace(PRODUCT, title=" ".join("abcdefghijk"))
    assert type_factor(replace(PRODUCT, title="a"), wanted, nouns) == 0.1


@pytest.mark.parametrize(("query", "expected"), [("table lamps", 1.0), ("other", 0.5)])
def test_a_wanted_title_without_nouns_is_judged_by_query_and_levels(query: str, expected: float) -> None:
    bought = replace(PRODUCT, query=query, path="")
    assert type_factor(bought, replace(PRODUCT, title=""), nouns) == expected


@pytest.mark.parametrize(
    ("wanted", "met"),
    [
        ("easy installs", True),  # alike: 2 * 12 of 25 letters, 96
        ("easy installation", False),  # 2 * 12 of 29 letters, 83
        ("easy", True),  # all of its words are in "easy install"
        ("solid oak", True),  # in a feature, in lower case
        ("easy to clean", True),  # in the description
        ("oak shade", True),  # in the title
        ("solid  oak", False),
        ("battery", False),
    ],
)
def test_an_attribute_is_met_by_one_alike_or_word_for_word_in_a_text(wanted: str, met: bool) -> None:
    assert count_attributes(PRODUCT, [wanted]) == met


def test_an_attribute_that_is_not_in_lower_case_is_in_no_text() -> None:
    assert count_attributes(PRODUCT, ["Solid Oak"]) == 0


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("essential oil", "essential oils", True),  # 2 * 13 of 27 letters are the same: 96
        ("tea bag", "tea tree", False),  # "tea" of "tea bag" is the best: 2 * 3 of 10, 60
        ("large", "x-large", True),  # all words of one are in the other: 100
        ("Black!", "black", True),
        ("café", "caf", True),  # characters from 128 to 255 are dropped
        ("", "black", False),
    ],
)
def test_texts_are_alike_by_their_words(one: str, other: str, expected: bool) -> None:
    assert alike(one, other) is expected


@pytest.mark.parametrize(
    ("chosen", "wanted", "met"),
    [
        ("light blue", "royal blue", True),  # both are blue
        ("dark navy", "navy", False),  # dark comes before navy
        ("colored", "red", True),
        ("large", ("size", "x-large"), True),
        ("teal", ("color", "teal"), True),
        ("light teal", ("color", "teal"), False),  # light is not teal
        ("dark red", ("color", "dark teal"), True),  # dark is one of the words of the pair
        ("size 9", ("size", "9"), True),  # the name counts as a word
    ],
)
def test_options_are_compared_by_colour_and_by_words(chosen: str, wanted: str | tuple[str, str], met: bool) -> None:
    assert count_options([chosen], [wanted]) == met


def test_options_wanted_by_name_may_be_met_under_another_name() -> None:
    assert reward_of({"style": "9", "color": "teal"}, options={"size": "9", "color": "teal"}) == 1.0


def test_one_chosen_value_may_meet_two_wishes() -> None:
    assert count_options(["9 teal"], ["teal", "teal lamp"]) == 2


@pytest.mark.parametrize(("option", "colour"), [("dark navy blue", "blue"), ("9", "9"), (("color", "teal"), "teal")])
def test_an_option_becomes_the_first_colour_of_the_list(option: str | tuple[str, str], colour: str) -> None:
    assert colours.normalise(option) == colour


def test_a_pair_whose_value_only_holds_a_colour_stays_a_pair() -> None:
    assert colours.normalise(("color", "dark teal")) == "('color', 'dark teal')"
