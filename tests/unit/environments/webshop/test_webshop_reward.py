"""The reward, on cases worked by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from distillery_webshop import colors
from distillery_webshop.goals import Goal
from distillery_webshop.products import Product
from distillery_webshop.reward import compute_reward, compute_type_factor, count_attributes, count_options, is_similar

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
    return compute_reward(PRODUCT, chosen, replace(GOAL, **goal), PRODUCT, nouns)


def test_reward_is_one_when_everything_fits() -> None:
    assert reward_of({"color": "teal", "size": "9"}) == 1.0


def test_reward_loses_a_share_when_an_option_is_not_chosen() -> None:
    assert reward_of({"color": "teal"}) == pytest.approx(3 / 4)


def test_reward_loses_a_share_when_an_option_is_wrong() -> None:
    assert reward_of({"color": "teal", "size": "10"}) == pytest.approx(3 / 4)


def test_reward_loses_a_share_when_an_attribute_is_missing() -> None:
    goal = {"attributes": ("easy install", "battery powered")}
    assert reward_of({"color": "teal", "size": "9"}, **goal) == pytest.approx(4 / 5)


@pytest.mark.parametrize(("limit", "expected"), [(20.0, 1.0), (19.99, 3 / 4)])
def test_price_fits_when_it_equals_the_limit(limit: float, expected: float) -> None:
    assert reward_of({"color": "teal", "size": "9"}, price_limit=limit) == pytest.approx(expected)


def test_reward_counts_attributes_and_price_without_options() -> None:
    assert reward_of({}, options=(), attributes=("easy install", "silent")) == pytest.approx(2 / 3)


def test_type_factor_scales_the_reward() -> None:
    other = replace(PRODUCT, title="oak", query="shades", path="Home")
    assert compute_type_factor(other, replace(PRODUCT, title="oak a b c d e"), nouns) == 0.5
    wanted = replace(PRODUCT, title="oak a b c d e")
    assert compute_reward(other, {"color": "teal"}, GOAL, wanted, nouns) == pytest.approx(0.5 * 3 / 4)


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
def test_type_factor_depends_on_query_levels_and_nouns(bought: Mapping[str, str], expected: float) -> None:
    wanted = replace(PRODUCT, title="a b c d e f")
    other = replace(PRODUCT, query="other", path="Home › Other")
    assert compute_type_factor(replace(other, **dict(bought)), wanted, nouns) == expected


def test_repeated_nouns_of_the_wanted_title_count_repeatedly() -> None:
    wanted = replace(PRODUCT, title="shoe " * 10 + "lamp")
    assert compute_type_factor(replace(PRODUCT, title="lamp"), wanted, nouns) == 0.1  # 1 of 11, not 1 of 2


def test_type_factor_is_low_when_few_nouns_are_shared() -> None:
    wanted = replace(PRODUCT, title=" ".join("abcdefghijk"))
    assert compute_type_factor(replace(PRODUCT, title="a"), wanted, nouns) == 0.1


@pytest.mark.parametrize(("query", "expected"), [("table lamps", 1.0), ("other", 0.5)])
def test_type_factor_uses_query_and_levels_without_nouns(query: str, expected: float) -> None:
    bought = replace(PRODUCT, query=query, path="")
    assert compute_type_factor(bought, replace(PRODUCT, title=""), nouns) == expected


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
def test_attribute_is_met_by_a_similar_one_or_in_a_text(wanted: str, met: bool) -> None:
    assert count_attributes(PRODUCT, [wanted]) == met


def test_attribute_is_not_counted_when_it_is_in_upper_case() -> None:
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
def test_texts_are_similar_when_they_share_words(one: str, other: str, expected: bool) -> None:
    assert is_similar(one, other) is expected


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
def test_options_are_compared_by_color_and_words(chosen: str, wanted: str | tuple[str, str], met: bool) -> None:
    assert count_options([chosen], [wanted]) == met


def test_named_option_can_be_met_under_another_name() -> None:
    assert reward_of({"style": "9", "color": "teal"}, options={"size": "9", "color": "teal"}) == 1.0


def test_count_options_counts_one_value_for_two_wanted_options() -> None:
    assert count_options(["9 teal"], ["teal", "teal lamp"]) == 2


@pytest.mark.parametrize(("option", "color"), [("dark navy blue", "blue"), ("9", "9"), (("color", "teal"), "teal")])
def test_option_becomes_the_first_color_of_the_list(option: str | tuple[str, str], color: str) -> None:
    assert colors.find_color(option) == color


def test_pair_is_kept_when_its_value_only_contains_a_color() -> None:
    assert colors.find_color(("color", "dark teal")) == "('color', 'dark teal')"
