"""The facts in an episode's own text: the places of things, and the actions that were accepted under which conditions.

Nothing here asks the simulator: the extractor `rules` may know only what the agent could have read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from distillery.environments.alfworld.actions import normalise
from distillery.environments.base import Fact

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
class _Known:
    """What the agent can know at one point of an episode. Names are instances, such as ``mug 2``."""

    named: set[str]
    at: str = ""
    holding: str = ""
    opened: dict[str, bool] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Where each thing was last seen."""
    handled: set[str] = field(default_factory=set)
    """What the agent itself has moved: where that lies says nothing about where such things usually are."""


def read(opening: str, turns: Sequence[tuple[str, str]]) -> list[Fact]:
    """Return the facts of one episode, in the order in which they showed. See :meth:`.base.Environment.read`.

    A place counts as looked into once in an episode, and a thing as found once at a place. The conditions of an
    accepted or refused action are those of: ``holding something`` or ``hands empty``; ``at the target`` (where the
    agent stands is, or holds, what the command names); ``target open`` or ``target closed``, where the text has said
    so; ``target was seen`` (everything that the command names was in a text before).
    """
    known = _Known(named=set(re.findall(_NAME, opening)))
    facts: list[Fact] = []
    looked: set[str] = set()
    found: set[tuple[str, str]] = set()
    for action, text in turns:
        command = normalise(action)
        if match := next((match for pattern in _COMMANDS if (match := pattern.fullmatch(command))), None):
            kind = "refused" if text == _REFUSAL else "accepted"
            target = match.groupdict().get("place") or match.groupdict().get("thing")
            conditions = _conditions(known, target, re.findall(_NAME, command))
            facts.append(Fact(kind, thing=match["verb"], conditions=conditions))
        for place, things in _contents(text):
            if place not in looked:
                looked.add(place)
                facts.append(Fact("looked", place=_kind(place)))
            for thing in things:
                if thing not in known.handled and (place, thing) not in found:
                    found.add((place, thing))
                    facts.append(Fact("found", thing=_kind(thing), place=_kind(place)))
                known.places[thing] = place
        _learn(known, text)
    return facts


def _conditions(known: _Known, target: str | None, named: Sequence[str]) -> frozenset[str]:
    conditions = {"holding something" if known.holding else "hands empty"}
    if target and (target in (known.at, known.holding) or known.places.get(target, "nowhere") == known.at):
        conditions.add("at the target")
    if target in known.opened:
        conditions.add("target open" if known.opened[target] else "target closed")
    if named and known.named.issuperset(named):
        conditions.add("target was seen")
    return frozenset(conditions)


def _contents(text: str) -> list[tuple[str, list[str]]]:
    """The places that a text shows the inside or top of, each with what is there."""
    return [(on or inside, re.findall(rf"\ba ({_NAME})", seen)) for on, inside, seen in _CONTENTS.findall(text)]


def _learn(known: _Known, text: str) -> None:
    known.named.update(re.findall(_NAME, text))
    if arrival := _ARRIVAL.match(text):
        known.at = arrival[1]
    if picked := _PICKED_UP.match(text):
        known.holding = picked[1]
        known.handled.add(picked[1])
        known.places.pop(picked[1], None)
    if put := _PUT_DOWN.match(text):
        known.holding = ""
        known.places[put[1]] = put[2]
    for closing, place, state in _LID.findall(text):
        if closing or state:
            known.opened[place] = state == "open"


def _kind(name: str) -> str:
    return name.partition(" ")[0]
