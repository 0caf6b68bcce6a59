"""Where to look next: the one rule of search, with hints and without.

The order is a sweep, not a draw: a small model learns "the next one on the list" and does not learn "any one that I
have not been to". Only the first place of an unhinted search is drawn at random, which is what keeps every prior about
where things lie out of the model.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    HINT = "hint"
    """Next place: the next hinted kind."""
    HINT_PAST = "hint_past"
    """The same where the hint names a kind in between that the room lacks, which must be passed over."""
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


def next_place(
    names: Sequence[str], unseen: Collection[str], *, cursor: str | None, hinted: Sequence[str], start: str
) -> tuple[str, Choice]:
    """The receptacle to look into next, and by which part of the rule.

    In this order: another one of the kind just looked into, unless the search has strayed from the hinted kinds; the
    first hinted kind of which nothing was looked into yet; the next kind on the room's list, which is cyclic and is
    followed from the place looked into last. Within a kind the numbers go down, as the room lists them.

    Args:
        names: the room's receptacles in the order in which the room lists them.
        unseen: those not yet looked into.
        cursor: the receptacle looked into last in this search; None before the first.
        hinted: kinds of receptacle that the hint about the sought kind names (some may not be in the room).
        start: the kind at which an unhinted search starts.
    """
    of_kind: dict[str, list[str]] = {}
    waiting: dict[str, list[str]] = {}
    for name in names:
        of_kind.setdefault(kind_of(name), []).append(name)
        if name in unseen:
            waiting.setdefault(kind_of(name), []).append(name)
    here = kind_of(cursor) if cursor else None
    fresh = [kind for kind in hinted if kind in waiting and waiting[kind] == of_kind[kind]]
    if cursor and here and (here in hinted or not fresh):
        for name in waiting.get(here, ()):
            if number_of(name) < number_of(cursor):
                return name, Choice.INSTANCE
    if fresh:
        before = hinted[: hinted.index(fresh[0])]
        return waiting[fresh[0]][0], Choice.HINT_PAST if before and before[-1] not in of_kind else Choice.HINT
    if cursor is None and start in waiting:
        return waiting[start][0], Choice.START
    for kind in _after(list(of_kind), here):
        if kind in waiting:
            return waiting[kind][0], Choice.SWEEP
    return names[0], Choice.SWEEP


def search_order(
    names: Sequence[str], unseen: Collection[str], *, cursor: str | None, hinted: Sequence[str], start: str
) -> Iterator[str]:
    """All unseen receptacles in the order in which ``next_place`` visits them."""
    left = set(unseen)
    while left:
        cursor, _ = next_place(names, left, cursor=cursor, hinted=hinted, start=start)
        left.discard(cursor)
        yield cursor
