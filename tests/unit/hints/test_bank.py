"""Of similar hints the one with the most support is kept; hints on different topics are never duplicates."""

from __future__ import annotations

from distillery.hints.bank import find_duplicates


def test_similar_hints_of_a_category_are_duplicates_of_the_first():
    hints = [
        (1, "put", "", "check every drawer before you leave the room"),
        (2, "put", "", "check every drawers before you leave a room"),
        (3, "heat", "", "check every drawer before you leave the room"),
        (4, "put", "", "hold only one thing at a time"),
    ]
    assert find_duplicates(hints, 0.85) == {2: 1}


def test_similar_hints_are_no_duplicates_when_their_topics_differ():
    hints = [(1, "", "place of mug", "look for a mug in desk"), (2, "", "place of cup", "look for a cup in desk")]
    assert find_duplicates(hints, 0.5) == {}


def test_hints_are_duplicates_when_their_topic_is_the_same():
    hints = [(1, "", "place of mug", "look for a mug in desk"), (2, "", "place of mug", "look for a mug in sofa, bed")]
    assert find_duplicates(hints, 0.99) == {2: 1}


def test_hints_are_no_duplicates_when_as_similar_as_the_threshold():
    assert find_duplicates([(1, "", "", "ab"), (2, "", "", "ac")], 0.5) == {}
