"""A room: its furniture is the same in every game that plays there."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from distillery_alfworld import alfworld_assets

Location = tuple[int, int, int, int]
"""The position of an agent: x and z in quarters of a meter, rotation in quarter turns, horizon in degrees."""

_UNPOSED_COUNT = {"StoveBurner": 4, "Cabinet": 4, "Drawer": 3, "Shelf": 2}
"""How many of a kind a room gets where its layout names the kind but poses none; one of any other."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place that holds things.

    Attributes:
        id: THOR's id.
        kind: the kind of place, such as ``CounterTop``.
        location: the agent's position for using it. Neighbors can share one.
    """

    id: str
    kind: str
    location: Location


@dataclass(frozen=True, slots=True)
class Room:
    """A room without its loose things.

    Attributes:
        number: THOR's number of the room.
        places: sorted by id.
        things: the kinds of loose things that the room has and can put somewhere, sorted.
        start: where the agent begins.
    """

    number: int
    places: tuple[Place, ...]
    things: tuple[str, ...]
    start: Location

    def find_holders(self, thing: str) -> list[Place]:
        """Return the places that can hold a kind of thing."""
        return [place for place in self.places if thing in alfworld_assets.HOLDS[place.kind]]

    def find_places(self, kind: str) -> list[Place]:
        """Return the places of a kind."""
        return [place for place in self.places if place.kind == kind]


@cache
def build_room(number: int) -> Room:
    """Return the room of that number."""
    rng = random.Random(f"room {number}")  # noqa: S311 (no secret)
    kinds = alfworld_assets.read_kinds(number)
    places = []
    for thor_id, (x, z, rotation, horizon) in alfworld_assets.read_poses(number).items():
        kind = thor_id.split("|")[-1 if thor_id.endswith("Basin") else 0]
        if kind in alfworld_assets.RECEPTACLES:
            places.append(Place(thor_id, kind, (round(x * 4), round(z * 4), int(rotation) // 90, int(horizon))))
    posed = {place.kind for place in places}
    taken = {place.location for place in places}
    for kind in alfworld_assets.RECEPTACLES:
        if kind in kinds and kind not in posed and alfworld_assets.HOLDS[kind]:
            for _ in range(_UNPOSED_COUNT.get(kind, 1)):
                places.append(Place(_draw_place_id(kind, rng), kind, _draw_free_location(taken, rng)))
    places.sort(key=lambda place: place.id)
    holding = {thing for place in places for thing in alfworld_assets.HOLDS[place.kind]}
    things = tuple(thing for thing in alfworld_assets.OBJECTS if thing in kinds and thing in holding)
    return Room(number, tuple(places), things, _draw_free_location(taken, rng))


def draw_id(kind: str, rng: random.Random) -> str:
    """Return a THOR id: the kind and made-up coordinates."""
    return f"{kind}|{rng.uniform(-3, 3):+06.2f}|{rng.uniform(0, 2):+06.2f}|{rng.uniform(-3, 3):+06.2f}"


def _draw_place_id(kind: str, rng: random.Random) -> str:
    """Return the id of a place. A basin's begins with what it is the basin of: ``Sink|x|y|z|SinkBasin``."""
    owner = kind.removesuffix("Basin")
    return draw_id(owner, rng) + (f"|{kind}" if owner != kind else "")


def _draw_free_location(taken: set[Location], rng: random.Random) -> Location:
    while True:
        location = (rng.randint(-12, 12), rng.randint(-12, 12), rng.randint(0, 3), rng.choice((0, 15, 30, 45, 60)))
        if location not in taken:
            taken.add(location)
            return location
