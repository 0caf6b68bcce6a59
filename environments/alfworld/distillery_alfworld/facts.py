"""The facts in an episode's own text: the places of things, and the actions that were accepted under which conditions.

Nothing here asks the simulator: the extractor `rules` may know only what the agent could have read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from distillery.environments.base import Fact
from distillery_alfworld.actions import normalize_action

_NAME = r"[a-z]+ \d+"
_COMMANDS = [
    re.compile(pattern.replace("THING", f"(?P<thing>{_NAME})").replace("PLACE", f"(?P<place>{_NAME})"))
    for pattern in (
        "(?P<verb>go to|open|close) PLACE",
        "(?P<verb>take) THING from PLACE",
        "(?P<verb>move) THING to PLACE",
        "(?P<verb>clean|heat|cool) THING with PLACE",
        f"(?P<verb>slice) THING with {_NAME}",
        "(?P<verb>use|examine) THING",
        "(?P<verb>look|inventory|help)",
    )
]
_ARRIVAL = re.compile(rf"You arrive at ({_NAME})\.")
_PICKED_UP = re.compile(rf"You pick up the ({_NAME}) ")
_PUT_DOWN = re.compile(rf"You move the ({_NAME}) to the ({_NAME})\.")
_LID = re.compile(rf"(?:The|You) (close the )?({_NAME})(?: is (open|closed))?\.")
_CONTENTS = re.compile(rf"(?:On the ({_NAME})|The ({_NAME}) is open\. In it), you see ([^.]*)\.")
_REFUSAL = "Nothing happens."


@dataclass(slots=True)
class _Knowledge:
    """What the agent can know at one point of an episode. Names are instances, such as ``mug 2``."""

    named: set[str]
    at: str = ""
    holding: str = ""
    opened: dict[str, bool] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Where each thing was last seen."""
    handled: set[str] = field(default_factory=set)
    """What the agent itself has moved: where that lies says nothing about where such things usually are."""


def read_facts(opening: str, turns: Sequence[tuple[str, str]]) -> list[Fact]:
    """Return the facts of one episode, in the order in which they showed. See :meth:`.base.Environment.read`.

    A place counts as looked into once in an episode, and a thing as found once at a place. The conditions of an
    accepted or refused action are those of: ``holding something`` or ``hands empty``; ``at the target`` (where the
    agent stands is, or holds, what the command names); ``target open`` or ``target closed``, where the text has said
    so; ``target was seen`` (everything that the command names was in a text before).
    """
    knowledge = _Knowledge(named=set(re.findall(_NAME, opening)))
    facts: list[Fact] = []
    places_seen: set[str] = set()
    found_objects: set[tuple[str, str]] = set()
    for action, text in turns:
        command = normalize_action(action)
        if match := next((match for pattern in _COMMANDS if (match := pattern.fullmatch(command))), None):
            kind = "refused" if text == _REFUSAL else "accepted"
            target = match.groupdict().get("place") or match.groupdict().get("thing")
            conditions = _find_conditions(knowledge, target, re.findall(_NAME, command))
            facts.append(Fact(kind, thing=match["verb"], conditions=conditions))
        for place, things in _find_contents(text):
            if place not in places_seen:
                places_seen.add(place)
                facts.append(Fact("looked", place=_find_kind(place)))
            for thing in things:
                if thing not in knowledge.handled and (place, thing) not in found_objects:
                    found_objects.add((place, thing))
                    facts.append(Fact("found", thing=_find_kind(thing), place=_find_kind(place)))
                knowledge.places[thing] = place
        _update(knowledge, text)
    return facts


def _find_conditions(knowledge: _Knowledge, target: str | None, named: Sequence[str]) -> frozenset[str]:
    conditions = {"holding something" if knowledge.holding else "hands empty"}
    if target and (
        target in (knowledge.at, knowledge.holding) or knowledge.places.get(target, "nowhere") == knowledge.at
    ):
        conditions.add("at the target")
    if target in knowledge.opened:
        conditions.add("target open" if knowledge.opened[target] else "target closed")
    if named and knowledge.named.issuperset(named):
        conditions.add("target was seen")
    return frozenset(conditions)


def _find_contents(text: str) -> list[tuple[str, list[str]]]:
    """Return the places whose inside or top a text shows, each with the things there."""
    return [(on or inside, re.findall(rf"\ba ({_NAME})", seen)) for on, inside, seen in _CONTENTS.findall(text)]


def _update(knowledge: _Knowledge, text: str) -> None:
    knowledge.named.update(re.findall(_NAME, text))
    if arrival := _ARRIVAL.match(text):
        knowledge.at = arrival[1]
    if picked := _PICKED_UP.match(text):
        knowledge.holding = picked[1]
        knowledge.handled.add(picked[1])
        knowledge.places.pop(picked[1], None)
    if put := _PUT_DOWN.match(text):
        knowledge.holding = ""
        knowledge.places[put[1]] = put[2]
    for closing, place, state in _LID.findall(text):
        if closing or state:
            knowledge.opened[place] = state == "open"


def _find_kind(name: str) -> str:
    return name.partition(" ")[0]
