"""How a session goes from page to page, in a fake shop."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from distillery.environments.base import Observation
from distillery_webshop.compiled_shop import CompiledShop
from distillery_webshop.goals import Goal
from distillery_webshop.products import Listing, Product
from distillery_webshop.session import WebShopSession

LAMP = Product(
    asin="B000000000",
    title="oak lamp",
    price_tag="$20.0",
    description="warm",
    features=("solid",),
    options={"color": ("red", "dark | teal"), "style": ("red",)},
    attributes=("easy install",),
    price=20.0,
    query="lamps",
    path="",
    category="garden",
)


class FakeShop:
    """Every search finds the same 25 lamps."""

    goals = (Goal(0, "B000000000", "furniture", "i want a lamp", ("easy install",), ("red",), 30.0),)

    def search(self, words: str) -> list[int]:
        return list(range(25)) if words == "lamp" else []

    def read_listing(self, number: int) -> Listing:
        return Listing(self.read_product(number).asin, "oak lamp", "$20.0")

    def read_product(self, number: int) -> Product:
        return replace(LAMP, asin=f"B{number:09}")

    @staticmethod
    def nouns(title: str) -> list[str]:
        return title.split()


def session(*, shown: int = 10, attributes: bool = False) -> WebShopSession:
    return WebShopSession(cast(CompiledShop, FakeShop()), 0, shown=shown, attributes=attributes)


def after(*actions: str, shown: int = 10, attributes: bool = False) -> Observation:
    """What is shown after the last of some actions, all of which have to be possible."""
    shopping = session(shown=shown, attributes=attributes)
    observation = shopping.reset()
    for action in actions:
        observation = shopping.step(action)
        assert observation.valid, action
    return observation


def page(observation: Observation) -> str:
    return next(
        text for text in observation.text.split(" [SEP] ") if text.startswith(("Page", "Price", "WebShop", "warm"))
    )


SEARCH = "search[Lamp]"
FIRST = "click[B000000000]"


def test_session_begins_on_the_search_page() -> None:
    assert after() == Observation("WebShop [SEP] Instruction: [SEP] i want a lamp [SEP] Search")


def test_search_opens_the_results() -> None:
    observation = after(SEARCH)
    assert page(observation) == "Page 1 (Total results: 25)"
    assert observation.text.count("oak lamp") == 10


def test_buttons_open_the_next_and_the_previous_page() -> None:
    assert "B000000010" in after(SEARCH, "click[Next >]").text
    assert "B000000000" in after(SEARCH, "click[next >]", "click[< prev]").text


def test_page_after_the_last_result_is_empty() -> None:
    observation = after(SEARCH, *["click[next >]"] * 3)
    assert page(observation) == "Page 4 (Total results: 25)"
    assert observation.admissible == ("click[back to search]", "click[< prev]", "click[next >]")


def test_product_of_a_later_page_is_the_one_shown_there() -> None:
    observation = after(SEARCH, "click[next >]", "click[b000000012]", "click[buy now]")
    assert "asin [SEP] B000000012" in observation.text


def test_product_leads_back_to_its_page_of_results() -> None:
    observation = after(SEARCH, "click[next >]", "click[b000000012]", "click[< prev]")
    assert page(observation) == "Page 2 (Total results: 25)"


def test_text_of_a_product_leads_back_to_it() -> None:
    assert page(after(SEARCH, FIRST, "click[description]")) == "warm"
    assert page(after(SEARCH, FIRST, "click[description]", "click[< prev]")) == "Price: $20.0"


def test_every_page_leads_back_to_the_search() -> None:
    for way in ([SEARCH], [SEARCH, FIRST], [SEARCH, FIRST, "click[features]"]):
        assert page(after(*way, "click[back to search]")) == "WebShop"


@pytest.mark.parametrize(
    ("way", "action"),
    [
        ([], "think[what to do]"),
        ([], "click[search]"),
        ([], "click[b000000000]"),
        ([SEARCH], "search[lamp]"),
        ([SEARCH], "click[b000000010]"),
        ([SEARCH], "click[buy now]"),
        ([SEARCH], "click[< prev]"),
        ([SEARCH, FIRST], "click[blue]"),
        ([SEARCH, FIRST], "click[attributes]"),
        ([SEARCH, FIRST], "click[color]"),
        ([SEARCH, FIRST, "click[features]"], "click[red]"),
        ([SEARCH, FIRST], "buy now"),
    ],
)
def test_impossible_action_is_refused_and_changes_nothing(way: list[str], action: str) -> None:
    shopping = session()
    before = shopping.reset()
    for step in way:
        before = shopping.step(step)
    refused = shopping.step(action)
    assert refused == replace(before, text="Invalid action!", valid=False)
    for possible in before.admissible[:1]:
        assert shopping.step(possible) == after(*way, possible)


def test_admissible_actions_are_accepted() -> None:
    for way in ([SEARCH], [SEARCH, "click[next >]"], [SEARCH, FIRST], [SEARCH, FIRST, "click[reviews]"]):
        for action in after(*way).admissible:
            after(*way, action)


def test_purchase_ends_the_session_with_its_reward() -> None:
    observation = after(SEARCH, FIRST, "click[red]", "click[buy now]")
    assert (observation.score, observation.done, observation.success) == (1.0, True, True)
    assert observation.admissible == ()


def test_purchase_is_no_success_when_it_does_not_fit() -> None:
    observation = after(SEARCH, FIRST, "click[buy now]")
    assert (observation.score, observation.done, observation.success) == (pytest.approx(2 / 3), True, False)


def test_no_action_is_accepted_after_the_purchase() -> None:
    shopping = session()
    for action in (SEARCH, FIRST, "click[buy now]"):
        shopping.step(action)
    observation = shopping.step("click[buy now]")
    assert (observation.valid, observation.done) == (False, True)


def test_last_value_of_an_option_counts() -> None:
    observation = after(SEARCH, FIRST, "click[dark | teal]", "click[DARK  |  Teal]", "click[buy now]")
    assert '{"color": "dark | teal"}' in observation.text


def test_shared_value_belongs_to_the_later_option() -> None:
    assert '{"style": "red"}' in after(SEARCH, FIRST, "click[red]", "click[buy now]").text


def test_choices_are_kept_on_a_text_of_the_product() -> None:
    observation = after(SEARCH, FIRST, "click[red]", "click[features]", "click[< prev]", "click[buy now]")
    assert observation.success


def test_choices_are_forgotten_on_the_results() -> None:
    observation = after(SEARCH, FIRST, "click[red]", "click[< prev]", FIRST, "click[buy now]")
    assert "options [SEP] {} [SEP]" in observation.text


def test_reset_starts_over() -> None:
    shopping = session()
    for action in (SEARCH, FIRST, "click[red]", "click[buy now]"):
        shopping.step(action)
    assert shopping.reset() == after()
    assert shopping.step(SEARCH) == after(SEARCH)


def test_session_shows_fewer_products_when_requested() -> None:
    observation = after(SEARCH, "click[next >]", shown=3)
    assert [action for action in observation.admissible if "b0" in action] == [
        f"click[b{number:09}]" for number in (10, 11, 12)
    ]


def test_attributes_button_is_shown_when_requested() -> None:
    assert "easy install" in after(SEARCH, FIRST, "click[attributes]", attributes=True).text
