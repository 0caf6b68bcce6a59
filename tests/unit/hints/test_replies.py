"""Replies that hold hints, and replies that only look as if they did."""

from __future__ import annotations

import pytest

from distillery.hints.extractors.replies import find_hints

AB = ["look on the desk", "open the drawer: it may be shut"]


@pytest.mark.parametrize(
    "reply",
    [
        '{"hints": ["look on the desk", "open the drawer: it may be shut"]}',
        '```json\n{"hints": ["look on the desk", "open the drawer: it may be shut"]}\n```',
        'Here are [2] {hints}:\n{"hints": ["look on the desk", "open the drawer: it may be shut"]}\nGood luck!',
        '{"analysis": "it {failed}", "hints": ["look on the desk", "open the drawer: it may be shut"], "n": 2}',
        '["look on the desk", "open the drawer: it may be shut"]',
        '{"hints": ["look on the desk", "open the drawer: it may be shut",],}',
        '<think>perhaps {"hints": ["no"]}?</think>\n{"hints": ["look on the desk", "open the drawer: it may be shut"]}',
        "Hints:\n- look on the desk\n- open the drawer: it may be shut",
        "1. look on the desk\n\n2) open the drawer: it may be shut\n",
        '{"tags": ["a"]} {"hints": ["look on the desk", "open the drawer: it may be shut"]}',
    ],
)
def test_hints_are_found_when_a_reply_is_wrapped(reply: str):
    assert find_hints(reply) == AB


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "no json",
        "The agent should look on the desk.\nIt failed.",
        '{"hints": []}',
        '{"hints": [1]}',
        '{"hints": ["cut in the mid',
        '{"advice": "look"}',
        "I found this:\nlook on the desk\n- open the drawer",
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_no_hints_are_found_when_a_reply_has_none(reply: str):
    assert find_hints(reply) is None
