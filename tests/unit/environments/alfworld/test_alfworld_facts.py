"""What the miner learns from an episode's text."""

from __future__ import annotations

from distillery.environments.base import Fact
from distillery_alfworld.facts import read_facts

OPENING = (
    "You are in the middle of a room. Looking quickly around you, you see a desk 1, a drawer 1, a fridge 1, "
    "a sinkbasin 1, and a shelf 1.\nYour task is to: put a clean mug in fridge."
)
ON_DESK = ("go to desk 1", "You arrive at desk 1. On the desk 1, you see a mug 2, a mug 1, and a pen 1.")
TAKE = ("take mug 2 from desk 1", "You pick up the mug 2 from the desk 1.")
TO_SHELF = ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see nothing.")
MOVE = ("move mug 2 to shelf 1", "You move the mug 2 to the shelf 1.")
REFUSED = "Nothing happens."


def places(*turns: tuple[str, str]) -> list[Fact]:
    return [fact for fact in read_facts(OPENING, turns) if fact.kind in ("looked", "found")]


def last_conditions(*turns: tuple[str, str]) -> set[str]:
    """The conditions of the last turn's command."""
    (fact,) = [fact for fact in read_facts(OPENING, turns) if fact.kind in ("accepted", "refused")][len(turns) - 1 :]
    return set(fact.conditions)


def test_facts_list_the_objects_on_a_surface() -> None:
    assert places(ON_DESK) == [
        Fact("looked", place="desk"),
        Fact("found", thing="mug", place="desk"),
        Fact("found", thing="mug", place="desk"),
        Fact("found", thing="pen", place="desk"),
    ]


def test_facts_list_the_objects_in_an_open_place() -> None:
    text = "You open the fridge 1. The fridge 1 is open. In it, you see a apple 1."
    assert places(("open fridge 1", text)) == [
        Fact("looked", place="fridge"),
        Fact("found", thing="apple", place="fridge"),
    ]


def test_empty_place_counts_as_looked_into() -> None:
    assert places(TO_SHELF) == [Fact("looked", place="shelf")]


def test_closed_place_does_not_count_as_looked_into() -> None:
    assert places(("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")) == []


def test_place_counts_once_when_it_is_visited_again() -> None:
    assert places(ON_DESK, TO_SHELF, ON_DESK) == [*places(ON_DESK), Fact("looked", place="shelf")]


def test_object_is_not_found_where_the_agent_put_it() -> None:
    shelf = ("examine shelf 1", "On the shelf 1, you see a mug 2.")
    assert places(ON_DESK, TAKE, TO_SHELF, MOVE, shelf) == places(ON_DESK, TO_SHELF)


def test_facts_have_the_verb_and_the_result_of_actions() -> None:
    facts = read_facts(OPENING, [ON_DESK, TAKE, ("open desk 1", REFUSED), ("put mug 2 in/on desk 1", REFUSED)])
    outcomes = [(fact.kind, fact.thing) for fact in facts if fact.kind in ("accepted", "refused")]
    assert outcomes == [("accepted", "go to"), ("accepted", "take"), ("refused", "open"), ("refused", "move")]


def test_thoughts_and_gibberish_give_no_facts() -> None:
    assert read_facts(OPENING, [("think: where is the mug?", "OK."), ("dance", REFUSED), ("", REFUSED)]) == []


def test_hands_are_empty_until_an_object_is_taken() -> None:
    assert "hands empty" in last_conditions(ON_DESK, TAKE)
    assert "holding something" in last_conditions(ON_DESK, TAKE, TO_SHELF)
    assert "hands empty" in last_conditions(ON_DESK, TAKE, TO_SHELF, MOVE, ON_DESK)


def test_agent_is_at_the_place_where_it_arrived_last() -> None:
    clean = ("clean mug 2 with sinkbasin 1", REFUSED)
    assert "at the target" not in last_conditions(ON_DESK, TAKE, clean)
    at_sink = ("go to sinkbasin 1", "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing.")
    assert "at the target" in last_conditions(ON_DESK, TAKE, at_sink, clean)


def test_agent_is_at_the_objects_of_its_place() -> None:
    use = ("use pen 1", REFUSED)
    assert "at the target" in last_conditions(ON_DESK, use)
    assert "at the target" not in last_conditions(ON_DESK, TO_SHELF, use)


def test_door_is_open_or_closed_as_the_last_text_says() -> None:
    closed = ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")
    opened = ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see nothing.")
    shut = ("close fridge 1", "You close the fridge 1.")
    assert not {"target open", "target closed"} & last_conditions(closed)
    assert "target closed" in last_conditions(closed, opened)
    assert "target open" in last_conditions(closed, opened, shut)
    assert "target closed" in last_conditions(closed, opened, shut, opened)


def test_target_was_seen_when_a_text_has_all_its_names() -> None:
    assert "target was seen" in last_conditions(ON_DESK)
    assert "target was seen" in last_conditions(ON_DESK, TAKE)
    assert "target was seen" not in last_conditions(("take mug 2 from desk 1", REFUSED))
    assert "target was seen" not in last_conditions(("go to bed 1", REFUSED))
