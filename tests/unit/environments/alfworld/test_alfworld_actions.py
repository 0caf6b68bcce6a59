"""How an agent's command is tidied."""

from __future__ import annotations

import pytest

from distillery_alfworld.actions import normalize_action


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
def test_normalize_action_understands_case_blanks_and_put(action: str, command: str) -> None:
    assert normalize_action(action) == command


@pytest.mark.parametrize(
    "action", ["put mug 2", "put mug 2 onto desk 1", "take mug 2 in desk 1", "input mug in desk", ""]
)
def test_normalize_action_keeps_other_words(action: str) -> None:
    assert normalize_action(action) == action
