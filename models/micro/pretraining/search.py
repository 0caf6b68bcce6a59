"""Where to look next: the one rule of search, with hints and without.

The order is a sweep, not a draw: a small model learns "the next one on the list" and does not learn "any one that I
have not been to". Only the first place of an unhinted search is drawn at random, which is what keeps every prior about
where things lie out of the model.

A hint is followed in words, one look-up at a time. Each consultation repeats the sought kind and the place before, and
reads what stands behind them in the hint; whether the room has such a place decides how it continues::

    mug no start mug in safe mug safe desk go to desk 2    first the safe, which is not here; then the desk, which is
    mug no desk 1 mug desk on go to shelf 3                nothing stands behind the desk: on, along the room's list
    mug no shelf 3 on go to shelf 2                        still on

Asked to name the next place at once, a model of this size learns the first place of a hint and none behind it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from .simulator import kind_of

Hints = Mapping[str, Sequence[str]]
"""Kind of object -> kinds of receptacle to look in, best first."""


class Choice(StrEnum):
    """What one token of a demonstration decides; accuracy is reported for each."""

    GOAL = "goal"
    """What is sought, held or headed for."""
    FOUND = "found"
    """It is here: its number."""
    ABSENT = "absent"
    """It is not here: ``no``."""
    ELSEWHERE = "elsewhere"
    """It was seen before: ``at``."""
    CURSOR = "cursor"
    """Where the search stands, or where the thing was seen."""
    VERB = "verb"
    START = "start"
    """The random kind at which an unhinted search starts."""
    INSTANCE = "instance"
    """Next place: another one of this kind."""
    CONSULT = "consult"
    """What to do about hints: consult them, continue without, or there is none."""
    HINT = "hint"
    """What stands in the hint behind the kind just named."""
    EXHAUSTED = "exhausted"
    """Nothing does: ``on``."""
    PRESENT = "present"
    """Whether the kind just read can be gone to, or the hint must be read on."""
    SWEEP = "sweep"
    """Next place: the next kind on the room's list."""
    NUMBER = "number"
    """Number of the next place."""
    ARGUMENT = "argument"
    """Any other part of a command."""
    END = "end"


def number_of(name: str) -> int:
    """``"cabinet 2"`` -> 2."""
    return int(name.rpartition(" ")[2])


def hint_line(hints: Hints) -> str:
    """Hints as the player reads them; empty when there are none."""
    sentences = [f"look for a {kind} in {', '.join(places)}." for kind, places in hints.items()]
    return f"Hints: {' '.join(sentences)}" if sentences else ""


def _after(kinds: Sequence[str], kind: str | None) -> Sequence[str]:
    """The cyclic order of ``kinds`` that starts behind ``kind``; unchanged when that is not among them."""
    if kind not in kinds:
        return kinds
    cut = kinds.index(kind) + 1
    return [*kinds[cut:], *kinds[:cut]]


@dataclass(frozen=True)
class Part:
    """A piece of a turn, and what is decided by it."""

    text: str
    choice: Choice


@dataclass(frozen=True)
class Step:
    """The next place of a search, and the words that lead to it.

    ``exhausted`` says that the hints about the sought kind are used up, now or before.
    """

    place: str
    parts: tuple[Part, ...]
    exhausted: bool = False

    @property
    def random(self) -> bool:
        """Whether the place was drawn."""
        return any(part.choice is Choice.START for part in self.parts)


@dataclass(frozen=True)
class Search:
    """What a search knows.

    Attributes:
        names: the room's receptacles in the order in which the room lists them.
        hints: all that were given.
        start: the kind at which an unhinted search starts.
    """

    names: Sequence[str]
    hints: Hints
    start: str

    def next(self, sought: str, unseen: Collection[str], *, cursor: str | None, exhausted: bool) -> Step:
        """The receptacle to look into next.

        Args:
            sought: kind of object.
            unseen: receptacles not yet looked into.
            cursor: the receptacle looked into last; None before the first.
            exhausted: an earlier step found the hints about this kind used up.
        """
        hinted = self.hints.get(sought, ())
        here = kind_of(cursor) if cursor else ""
        another = self._another(unseen, cursor)
        if not hinted:
            return self._search_on(unseen, cursor, another, ())
        if exhausted:
            return self._search_on(unseen, cursor, another, (Part("on", Choice.CONSULT),))
        if here in hinted and another:
            return Step(another, _go(another, Choice.INSTANCE, verb=Choice.CONSULT))
        parts: list[Part] = []
        before = here if here in hinted else "in"
        for kind in hinted[hinted.index(here) + 1 :] if here in hinted else hinted:
            parts += _consultation(sought, before, first=not parts)
            parts.append(Part(kind, Choice.HINT))
            of_kind = [name for name in self.names if kind_of(name) == kind]
            if of_kind and all(name in unseen for name in of_kind):
                return Step(of_kind[0], (*parts, *_go(of_kind[0], Choice.ARGUMENT, verb=Choice.PRESENT)))
            before = kind
        parts += [*_consultation(sought, before, first=not parts), Part("on", Choice.EXHAUSTED)]
        return self._search_on(unseen, cursor, another, tuple(parts))

    def order(self, sought: str, unseen: Collection[str], *, cursor: str | None = None) -> Iterator[str]:
        """All unseen receptacles in the order in which they are looked into."""
        left, exhausted = set(unseen), False
        while left:
            step = self.next(sought, left, cursor=cursor, exhausted=exhausted)
            cursor, exhausted = step.place, step.exhausted
            left.discard(cursor)
            yield cursor

    def _another(self, unseen: Collection[str], cursor: str | None) -> str:
        """The next of the kind just looked into: within a kind the numbers go down, as the room lists them."""
        of_kind = (name for name in self.names if cursor and name in unseen and kind_of(name) == kind_of(cursor))
        return next((name for name in of_kind if cursor and number_of(name) < number_of(cursor)), "")

    def _search_on(self, unseen: Collection[str], cursor: str | None, another: str, said: tuple[Part, ...]) -> Step:
        """Another one of this kind, else along the room's list, which is cyclic, from the place looked into last."""
        verb = Choice.VERB if said else Choice.CONSULT
        if another:
            return Step(another, (*said, *_go(another, Choice.INSTANCE, verb=verb)), bool(said))
        kinds = list(dict.fromkeys(map(kind_of, self.names)))
        waiting = {kind_of(name): name for name in reversed(self.names) if name in unseen}
        here = kind_of(cursor) if cursor else None
        if cursor is None and self.start in waiting:
            place, choice = waiting[self.start], Choice.START
        else:
            following = (waiting[kind] for kind in _after(kinds, here) if kind in waiting)
            place, choice = next(following, self.names[0]), Choice.SWEEP
        return Step(place, (*said, *_go(place, choice, verb=verb)), bool(said))


def _consultation(sought: str, before: str, *, first: bool) -> tuple[Part, Part]:
    decided = Choice.CONSULT if first else Choice.PRESENT
    return Part(sought, decided), Part(before, Choice.ARGUMENT)


def _go(place: str, choice: Choice, *, verb: Choice) -> tuple[Part, ...]:
    return Part("go to", verb), Part(kind_of(place), choice), Part(str(number_of(place)), Choice.NUMBER)
