"""Random rooms with random hints: everything the model is taught from.

Furniture and contents are drawn without regard to what lies where in a household, and the sought object is put where
the search will meet it after a geometric number of places. So nothing about where things are can be learned here;
that is left for hints to teach. What is alike to real rooms is their shape: numbers of kinds, of receptacles of a
kind, of objects, closed and shared places.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alfworld.gen.goal_library import gdict

from .search import Hints, Search, hint_line
from .simulator import PROCESS_PLACE, Goal, Receptacle, Room, Simulator, Task, Thing, kind_of
from .vocabulary import OBJECT_KINDS, OPENABLE_KINDS, RECEPTACLE_KINDS

LAMP = "desklamp"
TASKS: tuple[Task, ...] = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
SENTENCES = {task: tuple(gdict[task]["templates"]) for task in TASKS}
"""Task sentences, from the goal library of the ``alfworld`` package."""

MAX_HINTED_PLACES = 6
ABSENT_HINT_SHARE = 0.4
"""Share of hinted kinds that the room does not have: hints are mined over all rooms."""


@dataclass(frozen=True)
class Lesson:
    """A room, the hints that are given with it (none: an empty mapping), and where an unhinted search starts."""

    room: Room
    hints: Hints
    start: str

    @property
    def prompt(self) -> str:
        """First message of the episode."""
        return "\n".join(filter(None, (Simulator(self.room).introduction(), hint_line(self.hints))))


def random_hints(
    rng: random.Random, sought: Sequence[str], present: Sequence[str], *, size: float = 1.0, count: int | None = None
) -> dict[str, list[str]]:
    """Sentences about kinds of objects, as a retriever would bring them.

    Args:
        rng: source of randomness.
        sought: kinds the task is about, the main one first; it is hinted in 85 % of the cases, a lamp in half.
        present: kinds of receptacle in the room.
        size: 0 to 1; the larger, the more sentences, the longer, and the more kinds that are absent.
        count: how many sentences; default: one to three.
    """
    count = count or rng.choices((1, 2, 3), (1.2 - size, 0.2, 0.6 * size))[0]
    about = [kind for i, kind in enumerate(sought) if rng.random() < (0.5 if i else 0.85)][:count]
    while len(about) < count:
        kind = rng.choice(OBJECT_KINDS)
        if kind not in about and kind not in sought:
            about.append(kind)
    rng.shuffle(about)
    absent = [kind for kind in RECEPTACLE_KINDS if kind not in present]
    hints: dict[str, list[str]] = {}
    for kind in about:
        places: list[str] = []
        most = 3 + round((MAX_HINTED_PLACES - 3) * size)
        for _ in range(rng.randint(1, most)):
            source = absent if rng.random() < ABSENT_HINT_SHARE * size else present
            places.append(rng.choice(source))
        hints[kind] = list(dict.fromkeys(places))
    return hints


def random_lesson(rng: random.Random, *, size: float = 1.0, hinted: float = 0.5, uncluttered: bool = False) -> Lesson:
    """Draw a task, a room, hints, and put the objects in.

    Args:
        rng: source of randomness.
        size: 0 to 1, from small rooms where little is to be searched to rooms as large as real ones.
        hinted: probability that hints are given.
        uncluttered: at most two receptacles of a kind, so that nearly every step of a search changes the kind.
    """
    task = rng.choice(TASKS)
    receptacles = _random_receptacles(rng, task, size=size, uncluttered=uncluttered)
    names = [r.name for r in receptacles]
    kinds = list(dict.fromkeys(r.kind for r in receptacles))
    goal = _random_goal(rng, task, kinds)

    sought = [goal.kind, goal.lamp] if goal.lamp else [goal.kind]
    hints = random_hints(rng, sought, kinds, size=size) if rng.random() < hinted else {}
    start = rng.choice(kinds)

    search = Search(names, hints, start)
    order = list(search.order(goal.kind, names))
    if goal.process is None:  # an object that lies at its goal would end the game before it began
        order = [name for name in order if kind_of(name) != goal.receptacle]
    hazard = 0.5 + size * (rng.uniform(0.04, 0.34) - 0.5)
    first = _geometric(rng, order, hazard)
    rest = order[order.index(first) + 1 :] or [first]

    contents = [(goal.kind, first)]
    if goal.count == 2:
        contents.append((goal.kind, first if rng.random() < 0.35 else _geometric(rng, rest, hazard)))
    contents += [(goal.kind, rng.choice([first, *rest])) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    if goal.lamp:
        onward = list(search.order(LAMP, rest, cursor=first))
        passed = order[: order.index(first) + 1]
        contents.append((LAMP, rng.choice(passed) if rng.random() < 0.3 else _geometric(rng, onward, hazard)))
    weights = [math.exp(rng.gauss(0, 1.1)) for _ in names]
    for _ in range(rng.randint(5, 12 + round(45 * size))):
        kind = rng.choice(OBJECT_KINDS)
        if kind not in sought:
            contents.append((kind, rng.choices(names, weights)[0]))
    return Lesson(Room(goal, receptacles, _number_things(contents), start="nowhere"), hints, start)


def _random_receptacles(rng: random.Random, task: Task, *, size: float, uncluttered: bool) -> tuple[Receptacle, ...]:
    kinds = set(rng.sample(RECEPTACLE_KINDS, rng.randint(4, 5 + round(7 * size))))
    process = Goal(task, "", "").process
    if process:
        kinds.add(PROCESS_PLACE[process])
    receptacles: list[Receptacle] = []
    for kind in sorted(kinds):
        openable = kind in OPENABLE_KINDS
        for number in range(_random_count(rng, kind, size=size, uncluttered=uncluttered), 0, -1):
            location = f"location {len(receptacles)}"
            if receptacles and rng.random() < 0.12:  # a neighbor: `go to` it says "Nothing happens."
                location = (receptacles[-1] if rng.random() < 0.5 else rng.choice(receptacles)).location
            shut = openable and rng.random() < 0.9
            opened = openable and rng.random() < 0.1
            receptacles.append(Receptacle(f"{kind} {number}", kind, location, openable=shut, opened=shut and opened))
    return tuple(receptacles)


def _random_count(rng: random.Random, kind: str, *, size: float, uncluttered: bool) -> int:
    """How many receptacles of a kind: mostly one, sometimes a whole kitchen of cabinets."""
    if kind in PROCESS_PLACE.values():
        return 1
    few = rng.choices((1, 2, 3, 0), (0.62, 0.12, 0.08, 0.18))[0]
    if uncluttered:
        return rng.choice((1, 1, 2)) if few in (0, 3) else few
    return few or (rng.randint(4, 4 + round(4 * size)) if rng.random() < 0.6 else rng.randint(4, 8 + round(20 * size)))


def _random_goal(rng: random.Random, task: Task, kinds: Sequence[str]) -> Goal:
    lamp = LAMP if task == "look_at_obj_in_light" else ""
    process = Goal(task, "", "").process
    kind = rng.choice([k for k in OBJECT_KINDS if k != LAMP])
    receptacle = "" if lamp else rng.choice([k for k in kinds if not process or k != PROCESS_PLACE[process]])
    sentence = rng.choice(SENTENCES[task]).format(obj=kind, recep=receptacle, toggle=lamp)
    return Goal(task, sentence, kind, receptacle=receptacle, lamp=lamp)


def _geometric(rng: random.Random, places: Sequence[str], hazard: float) -> str:
    for place in places:
        if rng.random() < hazard:
            return place
    return rng.choice(places)


def _number_things(contents: Sequence[tuple[str, str]]) -> tuple[Thing, ...]:
    """Number the things of each kind downwards, as the engine does."""
    left = Counter(kind for kind, _ in contents)
    things: list[Thing] = []
    for kind, place in sorted(contents, key=lambda item: item[0]):
        lamp = kind == LAMP
        things.append(Thing(f"{kind} {left[kind]}", kind, (place,), portable=not lamp, switchable=lamp))
        left[kind] -= 1
    return tuple(things)
