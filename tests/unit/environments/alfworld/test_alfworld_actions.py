"""How an agent's command is tidied."""

from __future__ import annotations

import pytest

from distillery.environments.alfworld.actions import normalise


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("go to desk 1", "go to desk 1"),
        ("  Go  to\tDesk 1\n", "go to desk 1"),
        ("put mug 2 in/on desk 1", "move mug 2 to desk 1"),
        ("put mug 2 in fridge 1", "move mug 2 to fridge 1"),
        ("Put mug 2 on desk 1", "move mug 2 to desk 1"),
        ("move mug 2 to desk 1", "move mug 2 to desk 1"),
    ],
)
def test_spelling_and_the_older_put_are_understood(action: str, command: str) -> None:
    assert normalise(action) == command


@pytest.mark.parametrize(
    "action", ["put mug 2", "put mug 2 onto desk 1", "take mug 2 in desk 1", "input mug in desk", ""]
)
def test_other_words_are_left_to_the_engine(action: str) -> None:
    assert normalise(action) == action
