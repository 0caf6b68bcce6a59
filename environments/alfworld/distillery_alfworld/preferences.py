"""The usual places of things: the same in every generated game, as in real homes, so that they can be learned.

Each pair of a kind of thing and a kind of place has a fixed weight, drawn once and for all from a hash of the pair. The
weights span three orders of magnitude: among the places that can hold a thing, one to three kinds hold it mostly.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from distillery_alfworld.layouts import Place

_LEVELS = 10


def compute_weight(thing: str, place: str) -> int:
    """Return how much a kind of thing prefers a kind of place: a power of two from 1 to 512.

    Part of what ``generated_games.VERSION`` numbers: another formula is another generator.
    """
    return 1 << hashlib.sha256(f"{thing} in {place}".encode()).digest()[0] % _LEVELS


def choose_place(thing: str, places: Sequence[Place], rng: random.Random) -> Place:
    """Choose a place for a thing: first a kind of place by its weight, then any place of that kind."""
    kinds = sorted({place.kind for place in places})
    (chosen,) = rng.choices(kinds, [compute_weight(thing, kind) for kind in kinds])
    return rng.choice([place for place in places if place.kind == chosen])
