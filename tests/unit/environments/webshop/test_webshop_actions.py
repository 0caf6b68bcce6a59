"""What is understood as a command."""

from __future__ import annotations

import pytest

from distillery.environments.webshop.actions import Action, parse


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
def test_a_verb_with_an_argument_in_brackets_is_a_command(text: str, action: Action) -> None:
    assert parse(text) == action


@pytest.mark.parametrize("text", ["", "search", "search[]", "click[ ]", "buy[it]", "click red", "please click[red]"])
def test_anything_else_is_none(text: str) -> None:
    assert parse(text) is None
