"""A game's start and goal as ALFRED's PDDL."""

from __future__ import annotations

import re
from collections.abc import Mapping

from distillery_alfworld import alfworld_assets
from distillery_alfworld.layouts import Location, Place, Room

_MANGLED = {"-": "_minus_", "#": "-", "|": "_bar_", "+": "_plus_", ".": "_dot_", ",": "_comma_"}


def mangle(text: str) -> str:
    """Turn THOR's ids into PDDL names; ``#`` becomes the dash before a type (as alfworld 0.4.2 writes its games)."""
    return re.sub(r"[-#|+.,]", lambda match: _MANGLED[match[0]], text)


def write_problem(name: str, room: Room, placed: Mapping[str, tuple[str, Place]], goal: str) -> str:
    """Return the PDDL of a game.

    Args:
        name: of the problem.
        room: where it plays.
        placed: the things: id -> kind and place.
        goal: the goal in PDDL, which ends the problem.
    """
    locations = sorted({_format_location(place.location) for place in room.places} | {_format_location(room.start)})
    objects = [
        "agent1 # agent",
        *(f"{kind} # object" for kind in alfworld_assets.OBJECTS),
        *(f"{kind}Type # otype" for kind in alfworld_assets.OBJECTS),
        *(f"{kind}Type # rtype" for kind in alfworld_assets.RECEPTACLES),
        *(f"{thing} # object" for thing in sorted(placed)),
        *(f"{place.id} # receptacle" for place in room.places),
        *(f"{location} # location" for location in locations),
    ]
    facts = [fact for place in room.places for fact in _describe_place(place)]
    present = {kind for kind, _ in placed.values()}
    for kind in sorted({place.kind for place in room.places}):
        facts += [f"canContain {kind}Type {thing}Type" for thing in alfworld_assets.HOLDS[kind] if thing in present]
    for thing, (kind, place) in sorted(placed.items()):
        facts += _describe_thing(thing, kind, place)
    facts.append(f"atLocation agent1 {_format_location(room.start)}")
    lines = "\n        "
    start = lines.join(f"({fact})" for fact in facts)
    head = f"(define (problem {name})\n(:domain alfred)"
    return mangle(f"{head}\n(:objects{lines}{lines.join(objects)}\n)\n(:init{lines}{start}\n)\n{goal}")


def _describe_place(place: Place) -> list[str]:
    return [
        f"receptacleType {place.id} {place.kind}Type",
        f"receptacleAtLocation {place.id} {_format_location(place.location)}",
        *([f"openable {place.id}"] if place.kind in alfworld_assets.OPENABLE else []),
    ]


def _describe_thing(thing: str, kind: str, place: Place) -> list[str]:
    abilities = [ability for ability, kinds in alfworld_assets.ABILITIES.items() if kind in kinds]
    return [
        f"objectType {thing} {kind}Type",
        f"inReceptacle {thing} {place.id}",
        f"objectAtLocation {thing} {_format_location(place.location)}",
        *([] if "toggleable" in abilities else [f"pickupable {thing}"]),
        *([f"isReceptacleObject {thing}"] if kind in alfworld_assets.CONTAINERS else []),
        *(f"{ability} {thing}" for ability in abilities),
    ]


def _format_location(location: Location) -> str:
    return "loc|{}|{}|{}|{}".format(*location)
