"""The game: a room as data, and the text engine over it.

Speaks ALFWorld's language (grammar >= 0.4) to the letter for the commands a player needs, a thousand times faster than
the PDDL engine, which makes millions of tokens of play affordable. The tests hold it against the real engine.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Task = Literal[
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
]
Process = Literal["clean", "heat", "cool"]

TASK_PROCESS: Mapping[Task, Process] = {
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "heat",
    "pick_cool_then_place_in_recep": "cool",
}
PROCESS_PLACE: Mapping[Process, str] = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
"""Where an object is cleaned, heated and cooled."""
NOTHING_HAPPENS = "Nothing happens."


@dataclass(frozen=True)
class Goal:
    """What is to be done: ``sentence`` as the player reads it, the rest as the engine checks it."""

    task: Task
    sentence: str
    kind: str
    """Kind of the object that is sought."""
    receptacle: str = ""
    """Kind of receptacle it goes to; empty when it is to be looked at under a lamp."""
    lamp: str = ""
    """Kind of lamp it is to be looked at under; else empty."""

    @property
    def process(self) -> Process | None:
        """What must be done to the object before it is placed."""
        return TASK_PROCESS.get(self.task)

    @property
    def count(self) -> int:
        """How many objects must end in one and the same receptacle."""
        return 2 if self.task == "pick_two_obj_and_place" else 1


@dataclass(frozen=True)
class Receptacle:
    """A place. Two receptacles may share a location: who stands at one stands at the other."""

    name: str
    kind: str
    location: str
    openable: bool = False
    opened: bool = False


@dataclass(frozen=True)
class Thing:
    """An object; real rooms hold some that lie in two receptacles at once."""

    name: str
    kind: str
    places: tuple[str, ...]
    portable: bool = True
    switchable: bool = False
    allows: frozenset[Process] = frozenset({"clean", "heat", "cool"})


@dataclass(frozen=True)
class Room:
    """One game. Receptacles and things stand in the order in which the engine names them."""

    goal: Goal
    receptacles: tuple[Receptacle, ...]
    things: tuple[Thing, ...]
    start: str
    """Location of the player at the start."""
    fits: Mapping[str, frozenset[str]] | None = None
    """Kind of receptacle -> kinds of objects it takes; None: everything fits everywhere."""


def kind_of(name: str) -> str:
    """``"cabinet 2"`` -> ``"cabinet"``."""
    return name.rpartition(" ")[0]


def listing(names: Sequence[str]) -> str:
    """The engine's enumeration: ``a mug 2, and a pen 1``."""
    items = [f"a {name}" for name in names]
    if len(items) < 2:
        return items[0] if items else "nothing"
    return ", ".join(items[:-1]) + ", and " + items[-1]


def read_listing(enumeration: str) -> list[str]:
    """Inverse of ``listing``."""
    return [] if enumeration == "nothing" else [item[2:] for item in re.split(r", and |, ", enumeration)]


@dataclass
class Simulator:
    """A game in play. To a command that is not possible now the answer is that nothing happens."""

    room: Room
    here: str = field(init=False)
    holding: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Put everything where the room says."""
        self.here = self.room.start
        self._receptacles = {r.name: r for r in self.room.receptacles}
        self._things = {t.name: t for t in self.room.things}
        self._open = {r.name for r in self.room.receptacles if r.opened}
        self._places = {t.name: set(t.places) for t in self.room.things}
        self._processed: set[tuple[Process, str]] = set()
        self._lit: set[str] = set()
        self._handlers: dict[str, Callable[..., str | None]] = {
            r"go to (.+)": self._go,
            r"open (.+)": self._open_up,
            r"close (.+)": self._close,
            r"examine (.+)": self._examine,
            r"take (.+) from (.+)": self._take,
            r"move (.+) to (.+)": self._move,
            r"(clean|heat|cool) (.+) with (.+)": self._process,
            r"use (.+)": self._use,
            r"inventory": self._inventory,
        }

    def introduction(self) -> str:
        """What the player reads first: the room's receptacles, and on a line of its own the task."""
        seen = listing([r.name for r in self.room.receptacles])
        return (
            f"You are in the middle of a room. Looking quickly around you, you see {seen}.\n"
            f"Your task is to: {self.room.goal.sentence}."
        )

    def step(self, command: str) -> str:
        """Carry out one command and return what the player reads."""
        for pattern, handler in self._handlers.items():
            if match := re.fullmatch(pattern, command):
                return handler(*match.groups()) or NOTHING_HAPPENS
        return NOTHING_HAPPENS

    @property
    def won(self) -> bool:
        """Whether the goal is reached in the present state."""
        goal = self.room.goal
        if goal.lamp:
            lit_here = any(self._things[lamp].kind == goal.lamp and self._near(lamp) for lamp in self._lit)
            return lit_here and self.holding is not None and self._things[self.holding].kind == goal.kind
        placed = Counter(
            place
            for thing in self.room.things
            if thing.kind == goal.kind and (goal.process is None or (goal.process, thing.name) in self._processed)
            for place in self._places[thing.name]
            if self._receptacles[place].kind == goal.receptacle
        )
        return max(placed.values(), default=0) >= goal.count

    def _stands_at(self, receptacle: str) -> bool:
        return receptacle in self._receptacles and self._receptacles[receptacle].location == self.here

    def _reaches_into(self, receptacle: str) -> bool:
        shut = self._stands_at(receptacle) and self._receptacles[receptacle].openable and receptacle not in self._open
        return self._stands_at(receptacle) and not shut

    def _near(self, thing: str) -> bool:
        return any(self._stands_at(place) for place in self._places[thing])

    def _description(self, receptacle: str) -> str:
        inside = listing([t.name for t in self.room.things if receptacle in self._places[t.name]])
        if not self._receptacles[receptacle].openable:
            return f"On the {receptacle}, you see {inside}."
        if receptacle not in self._open:
            return f"The {receptacle} is closed."
        return f"The {receptacle} is open. In it, you see {inside}."

    def _go(self, receptacle: str) -> str | None:
        if receptacle not in self._receptacles or self._stands_at(receptacle):
            return None
        self.here = self._receptacles[receptacle].location
        return f"You arrive at {receptacle}. {self._description(receptacle)}"

    def _open_up(self, receptacle: str) -> str | None:
        if not self._stands_at(receptacle) or self._reaches_into(receptacle):
            return None
        self._open.add(receptacle)
        return f"You open the {receptacle}. {self._description(receptacle)}"

    def _close(self, receptacle: str) -> str | None:
        if not self._stands_at(receptacle) or receptacle not in self._open:
            return None
        self._open.remove(receptacle)
        return f"You close the {receptacle}."

    def _examine(self, receptacle: str) -> str | None:
        return self._description(receptacle) if self._stands_at(receptacle) else None

    def _take(self, thing: str, receptacle: str) -> str | None:
        if self.holding or thing not in self._things or not self._things[thing].portable:
            return None
        if receptacle not in self._places[thing] or not self._reaches_into(receptacle):
            return None
        self._places[thing].remove(receptacle)
        self.holding = thing
        return f"You pick up the {thing} from the {receptacle}."

    def _move(self, thing: str, receptacle: str) -> str | None:
        if self.holding != thing or not self._reaches_into(receptacle):
            return None
        fits = self.room.fits
        if fits is not None and self._things[thing].kind not in fits.get(self._receptacles[receptacle].kind, ()):
            return None
        self._places[thing].add(receptacle)
        self.holding = None
        return f"You move the {thing} to the {receptacle}."

    def _process(self, process: Process, thing: str, receptacle: str) -> str | None:
        if self.holding != thing or not self._stands_at(receptacle) or process not in self._things[thing].allows:
            return None
        if self._receptacles[receptacle].kind != PROCESS_PLACE[process]:
            return None
        if process != "clean":
            self._processed -= {("heat", thing), ("cool", thing)}
        self._processed.add((process, thing))
        return f"You {process} the {thing} using the {receptacle}."

    def _use(self, thing: str) -> str | None:
        if thing not in self._things or not self._things[thing].switchable or not self._near(thing):
            return None
        self._lit.add(thing)
        return f"You turn on the {thing}."

    def _inventory(self) -> str:
        return f"You are carrying: a {self.holding}." if self.holding else "You are not carrying anything."
