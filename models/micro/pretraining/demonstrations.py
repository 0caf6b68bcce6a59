"""Lessons as token sequences with targets: whole games, and look-up drills.

A *game* is the expert's play, with an occasional slip (a wrong command, never a target) so that recovering is taught.
A *drill* is a short sequence in which nearly every token is a target: "what lies where; now, where is a mug?",
"room and hints; now, what does the hint about a mug say behind desk?", "... and which place comes after this one?".
A small model finds such look-ups after a long plateau; drills make the plateau short.

Every sequence is a pure function of its name (``"train/1/4711"``), so a run can be repeated and resumed exactly.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from .expert import Expert, Turn
from .rooms import Lesson, random_hints, random_lesson
from .search import Choice, Part, Search, number_of
from .simulator import Simulator, kind_of, listing
from .vocabulary import BOS, ID, OBJECT_KINDS, PROMPT_MARK, RECEPTACLE_KINDS, TURN_END, encode

MAX_TOKENS = 1000
GAME_STEPS = 26
DRILL_PLACES = 14
SLIP_RATE = 0.04

WEIGHTS: Mapping[Choice, float] = {
    Choice.FOUND: 3.0,
    Choice.ABSENT: 3.0,
    Choice.ELSEWHERE: 3.0,
    Choice.CURSOR: 0.5,
    Choice.CONSULT: 2.0,
    Choice.HINT: 2.0,
    Choice.EXHAUSTED: 2.0,
    Choice.PRESENT: 2.0,
    Choice.SWEEP: 2.0,
}
"""Weight of a target in the loss where it is not 1: more where the choice is hard or rare, less where it is a copy."""


@dataclass
class Sequence:
    """Token ids with their targets.

    ``choices[i]`` says what token i decides (None: it is given, not a target), ``weights[i]`` its share in the loss.
    ``options`` holds, for a token that was drawn at random, the ids it was drawn from: its target is uniform over them.
    """

    ids: list[int] = field(default_factory=lambda: [ID[BOS]])
    weights: list[float] = field(default_factory=lambda: [0.0])
    choices: list[Choice | None] = field(default_factory=lambda: [None])
    options: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def give(self, text: str) -> None:
        """Append text that is no target."""
        self._extend(encode(text), None, 0.0)

    def give_observation(self, text: str) -> None:
        """Append what the player reads, up to where the player speaks."""
        self.give(f"{text}{TURN_END}{PROMPT_MARK}")

    def ask(self, text: str, choice: Choice) -> None:
        """Append text that is a target."""
        self._extend(encode(text), choice, WEIGHTS.get(choice, 1.0))

    def ask_turn(self, turn: Turn) -> None:
        """Append a whole turn as targets."""
        self.ask_parts(turn.parts, turn.options)
        self.ask(TURN_END, Choice.END)

    def slip_turn(self, turn: Turn, command: str) -> None:
        """Append the turn's thought as targets, then a command that is not the expert's and no target."""
        self.ask_parts(turn.parts[: turn.command_at])
        self.give(command + TURN_END)

    def ask_parts(self, parts: Iterable[Part], options: Iterable[str] = ()) -> None:
        """Append parts of a turn as targets; ``options`` are the kinds among which a random start was drawn."""
        for part in parts:
            if part.choice is Choice.START:
                self.options[len(self.ids)] = tuple(ID[kind] for kind in options)
            self.ask(part.text, part.choice)

    def _extend(self, ids: Iterable[int], choice: Choice | None, weight: float) -> None:
        for token in ids:
            self.ids.append(token)
            self.weights.append(weight)
            self.choices.append(choice)


def game(name: str, *, size: float = 1.0, hinted: float = 0.5) -> Sequence:
    """The expert's play of a random lesson; in half of the games it slips now and then."""
    rng = random.Random(name)  # noqa: S311
    lesson = random_lesson(rng, size=size, hinted=hinted)
    return play(lesson, rng, slip_rate=SLIP_RATE if rng.random() < 0.5 else 0.0)


def play(lesson: Lesson, rng: random.Random, *, slip_rate: float = 0.0) -> Sequence:
    """The expert's play of a lesson as a sequence."""
    simulator, expert, sequence = Simulator(lesson.room), Expert(lesson), Sequence()
    sequence.give_observation(lesson.prompt)
    for _ in range(GAME_STEPS):
        turn = expert.turn()
        command = turn.command
        if rng.random() < slip_rate:
            command = _slip(lesson, rng)
            sequence.slip_turn(turn, command)
        else:
            sequence.ask_turn(turn)
        observation = simulator.step(command)
        if simulator.won or len(sequence.ids) > MAX_TOKENS:
            break
        expert.observe(command, observation)
        sequence.give_observation(observation)
    return sequence


def _slip(lesson: Lesson, rng: random.Random) -> str:
    """A command such as a player errs by: mostly a visit out of turn or to a place that is not there."""
    place = rng.choice(lesson.room.receptacles).name
    thing = rng.choice(lesson.room.things).name
    return rng.choice(
        (
            f"go to {place}",
            f"go to {place}",
            f"go to {rng.choice(RECEPTACLE_KINDS)} {rng.randint(1, 4)}",
            f"go to {rng.choice(RECEPTACLE_KINDS)} {rng.randint(1, 4)}",
            f"go to {kind_of(place)} {number_of(place) + rng.randint(1, 3)}",
            f"take {kind_of(thing)} {number_of(thing) + 9} from {place}",
            rng.choice((f"open {place}", f"close {place}", f"examine {place}", "inventory")),
        )
    )


def drill(name: str, *, size: float = 1.0) -> Sequence:
    """One of the three look-up drills."""
    rng = random.Random(name)  # noqa: S311
    make = rng.choices((_thing_drill, _hint_drill, _search_drill), (0.3, 0.3, 0.4))[0]
    return make(rng, size)


def _thing_drill(rng: random.Random, size: float) -> Sequence:
    """What is seen at a few places, then kinds of things: which one is here, where was one seen, or ``no``."""
    contents = sorted(rng.choice(OBJECT_KINDS) for _ in range(rng.randint(1, 4 + round(14 * size))))
    highest = Counter(contents)
    for kind in highest:
        highest[kind] += rng.choice((0, 0, 0, 0, 1, 2))
    places = [f"{kind} {rng.randint(1, 4)}" for kind in rng.sample(RECEPTACLE_KINDS, rng.choice((1, 1, 2, 3, 4)))]
    lying: dict[str, list[str]] = {place: [] for place in places}
    for kind in contents:
        lying[rng.choice(places)].append(f"{kind} {highest[kind]}")
        highest[kind] -= 1

    sequence = Sequence()
    seen: dict[str, tuple[str, str]] = {}
    for place, things in lying.items():
        sequence.give_observation(f"You arrive at {place}. On the {place}, you see {listing(things)}.")
        seen |= {kind_of(thing): (thing, place) for thing in things}
    held = rng.choice(lying[places[-1]]) if lying[places[-1]] and rng.random() < 0.3 else ""
    if held:
        sequence.give(f"{kind_of(held)} {number_of(held)} take {held} from {places[-1]}{TURN_END}")
        sequence.give_observation(f"You pick up the {held} from the {places[-1]}.")
    for _ in range(rng.randint(6, 12)):
        kind = rng.choice(contents if rng.random() < 0.6 else OBJECT_KINDS)
        if held and kind == kind_of(held):
            continue
        sequence.give(f"has {held} {kind}" if held else kind)
        thing, place = seen.get(kind, ("", ""))
        if not thing:
            sequence.ask("no", Choice.ABSENT)
        elif place == places[-1]:
            sequence.ask(str(number_of(thing)), Choice.FOUND)
        else:
            sequence.ask("at", Choice.ELSEWHERE)
            sequence.ask(place, Choice.CURSOR)
        sequence.give(TURN_END + PROMPT_MARK)
    return sequence


def _hint_drill(rng: random.Random, size: float) -> Sequence:
    """A room and many hints, then places of kinds of things: what stands behind each in the hint about that kind."""
    lesson = random_lesson(rng, size=size, hinted=0.0, uncluttered=True)
    present = tuple(dict.fromkeys(r.kind for r in lesson.room.receptacles))
    hints = random_hints(rng, [lesson.room.goal.kind], present, size=size, count=rng.choice((2, 3, 3, 5, 8)))
    sequence = Sequence()
    sequence.give_observation(replace(lesson, hints=hints).prompt)
    for _ in range(rng.randint(10, 16)):
        kind = rng.choice([*hints])
        place = rng.randint(0, len(hints[kind]))
        sequence.give(f"{kind} {hints[kind][place - 1] if place else 'in'}")
        if place < len(hints[kind]):
            sequence.ask(hints[kind][place], Choice.HINT)
        else:
            sequence.ask("on", Choice.EXHAUSTED)
        sequence.give(TURN_END + PROMPT_MARK)
    return sequence


def _search_drill(rng: random.Random, size: float) -> Sequence:
    """A room, mostly with hints, then the next place over and over, often in search of another kind than before."""
    lesson = random_lesson(rng, size=size, hinted=0.0, uncluttered=rng.random() < 0.8)
    names = [r.name for r in lesson.room.receptacles]
    kinds = tuple(dict.fromkeys(map(kind_of, names)))
    sought = lesson.room.goal.kind
    if rng.random() < 0.85:
        count = rng.choice((1, 2, 3, 3, 5))
        lesson = replace(lesson, hints=random_hints(rng, [sought], kinds, size=size, count=count))
    search = Search(names, lesson.hints, lesson.start)
    change_rate = 0.15 * min(4, len(lesson.hints))
    stray_rate = 0.05 if rng.random() < 0.5 else 0.0
    unseen, cursor = set(names), None
    exhausted: set[str] = set()
    sequence = Sequence()
    sequence.give_observation(lesson.prompt)
    for _ in range(min(DRILL_PLACES, len(names))):
        sequence.give(f"{sought} no {cursor or 'start'}")
        if rng.random() < stray_rate:
            cursor = rng.choice(names)
            sequence.give(f"go to {cursor}")
        else:
            step = search.next(sought, unseen, cursor=cursor, exhausted=sought in exhausted)
            sequence.ask_parts(step.parts, kinds)
            cursor = step.place
            if step.exhausted:
                exhausted.add(sought)
        sequence.give(TURN_END + PROMPT_MARK)
        unseen.discard(cursor)
        if not unseen or len(sequence.ids) > MAX_TOKENS:
            break
        if rng.random() < change_rate:
            sought = rng.choice([*lesson.hints] if rng.random() < 0.9 else OBJECT_KINDS)
    return sequence
