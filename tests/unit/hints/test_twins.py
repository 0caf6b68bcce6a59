"""Among similar hints the most mentioned one wins; hints on different subjects are never twins."""

from __future__ import annotations

from distillery.hints.bank import twins_of


def test_near_copies_within_a_category_are_twins_of_the_first():
    hints = [
        (1, "put", "", "check every drawer before you leave the room"),
        (2, "put", "", "check every drawers before you leave a room"),
        (3, "heat", "", "check every drawer before you leave the room"),
        (4, "put", "", "hold only one thing at a time"),
    ]
    assert twins_of(hints, 0.85) == {2: 1}


def test_hints_on_different_subjects_are_no_twins_however_alike():
    hints = [(1, "", "place of mug", "look for a mug in desk"), (2, "", "place of cup", "look for a cup in desk")]
    assert twins_of(hints, 0.5) == {}


def test_one_hint_a_subject():
    hints = [(1, "", "place of mug", "look for a mug in desk"), (2, "", "place of mug", "look for a mug in sofa, bed")]
    assert twins_of(hints, 0.99) == {2: 1}


def test_the_threshold_itself_is_not_similar_enough():
    assert twins_of([(1, "", "", "ab"), (2, "", "", "ac")], 0.5) == {}
