"""What is understood as a command."""

from __future__ import annotations

import pytest

from distillery_webshop.actions import Action, parse_action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("search[red shoes]", Action("search", "red shoes")),
        ("click[Buy Now]", Action("click", "buy now")),
        ("click[< Prev]", Action("click", "< prev")),
        ("  Click[ 10.5  |  wide ] ", Action("click", "10.5 | wide")),
        ("click[size [m]]", Action("click", "size [m]")),
        ("click[red] and then buy", Action("click", "red")),
        ("search [a lamp]", Action("search", "a lamp")),
    ],
)
def test_parse_action_reads_a_verb_with_an_argument(text: str, action: Action) -> None:
    assert parse_action(text) == action


@pytest.mark.parametrize("text", ["", "search", "search[]", "click[ ]", "buy[it]", "click red", "please click[red]"])
def test_parse_action_returns_none_for_other_text(text: str) -> None:
    assert parse_action(text) is None
