"""How a game is played that one knows nothing about: search, take, process, place.

Every turn is a thought and a command on one line, the thought in front. It says what is sought, whether it is here, and
where the search stands, so that each part of the decision is one look-up for a small model::

    mug no desk 1 go to shelf 2              not at desk 1: on to shelf 2
    mug 2 take mug 2 from shelf 2            it is here
    has mug 2 sinkbasin go to sinkbasin 1    held; next it must be cleaned
    mug at desk 1 go to desk 1               one was seen at desk 1 before

The expert knows no more than a player: it reads the same text.
"""

import re
from dataclasses import dataclass

from .rooms import Lesson
from .search import Choice, Part, Search, number_of
from .simulator import NOTHING_HAPPENS, PROCESS_PLACE, kind_of, read_listing
from .vocabulary import VERBS


@dataclass(frozen=True)
class Turn:
    """What the player says at once; ``options`` are the kinds among which a random start was drawn."""

    parts: tuple[Part, ...]
    options: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Thought and command."""
        return " ".join(part.text for part in self.parts)

    @property
    def command(self) -> str:
        """The part from the first verb on."""
        return " ".join(part.text for part in self.parts[self.command_at :])

    @property
    def command_at(self) -> int:
        """Index of the first part of the command."""
        return next(i for i, part in enumerate(self.parts) if part.text in VERBS)


def _command(verb: str, *arguments: str) -> tuple[Part, ...]:
    return (Part(verb, Choice.VERB), *(Part(argument, Choice.ARGUMENT) for argument in arguments))


class Expert:
    """Plays one lesson. Alternate ``turn`` and ``observe``; a turn that was not carried out needs no ``observe``."""

    def __init__(self, lesson: Lesson) -> None:
        """Stand in the middle of the room, having seen nothing."""
        self._goal = lesson.room.goal
        self._names = [r.name for r in lesson.room.receptacles]
        self._search = Search(self._names, lesson.hints, lesson.start)
        self._exhausted: set[str] = set()
        """Kinds about which the hints are used up."""
        self._unseen = dict.fromkeys(self._names)
        self._seen: dict[str, str] = {}
        """Thing -> receptacle where it was seen, the latest last."""
        self._placed: set[str] = set()
        self._holding = ""
        self._processed = False
        self._at = ""
        self._cursor: str | None = None
        self._pending: tuple[str, str] | None = None
        """Command that must come first here: open a closed place, examine a neighbor."""

    @property
    def _searching(self) -> bool:
        return not self._holding or bool(self._goal.lamp)

    def observe(self, command: str, observation: str) -> None:
        """Take in what a command has led to."""
        verb = next(v for v in VERBS if command.startswith(v))
        target = command[len(verb) + 1 :]
        if observation == NOTHING_HAPPENS:
            if verb == "go to" and target in self._names:
                self._arrive(target)
                self._pending = ("examine", target)
            elif (verb, target) == self._pending:
                self._pending = None
        elif verb in ("go to", "open", "examine"):
            self._arrive(target)
            self._look(target, observation)
        elif verb == "take":
            self._holding, self._processed = target.split(" from ")[0], False
            self._seen.pop(self._holding, None)
        elif verb == "move":
            self._placed.add(self._holding)
            self._holding = ""
        elif verb == self._goal.process:
            self._processed = True

    def _arrive(self, place: str) -> None:
        self._at, self._pending = place, None
        if self._searching:
            self._cursor = place

    def _look(self, place: str, observation: str) -> None:
        if observation.endswith("is closed."):
            self._pending = ("open", place)
            return
        self._unseen.pop(place, None)
        if match := re.search(r"you see (.*)\.$", observation):
            for thing in read_listing(match[1]):
                self._seen.pop(thing, None)
                self._seen[thing] = place

    def turn(self) -> Turn:
        """Thought and command for the present state."""
        goal = self._goal
        if not self._holding:
            return self._seek(goal.kind, (), "take")
        held = tuple(Part(text, Choice.GOAL) for text in ("has", self._holding))
        if goal.lamp:
            return self._seek(goal.lamp, held, "use")
        if goal.process and not self._processed:
            target = PROCESS_PLACE[goal.process]
            finish = _command(goal.process, self._holding, "with", f"{target} 1")
        else:
            target = goal.receptacle
            finish = _command("move", self._holding, "to", f"{target} 1")
        if self._at != f"{target} 1":
            finish = _command("go to", f"{target} 1")
        elif self._pending and (self._pending[0] == "examine" or target == goal.receptacle):
            finish = _command(*self._pending)
        return Turn((*held, Part(target, Choice.GOAL), *finish))

    def _seek(self, kind: str, held: tuple[Part, ...], verb: str) -> Turn:
        """Towards a thing of a kind: ``verb`` it where it is in reach, go where it was seen, or search on."""
        subject = (*held, Part(kind, Choice.GOAL))
        known = [(t, place) for t, place in self._seen.items() if kind_of(t) == kind and t not in self._placed]
        here = [thing for thing, place in known if place == self._at]
        if here and not self._pending:
            thing = here[-1]
            found = Part(str(number_of(thing)), Choice.FOUND)
            source = ("from", self._at) if verb == "take" else ()
            return Turn((*subject, found, *_command(verb, thing, *source)))
        if known and not self._pending:
            place = known[-1][1]
            seen = (Part("at", Choice.ELSEWHERE), Part(place, Choice.CURSOR))
            return Turn((*subject, *seen, *_command("go to", place)))
        absent = (Part("no", Choice.ABSENT), Part(self._cursor or "start", Choice.CURSOR))
        if self._pending:
            return Turn((*subject, *absent, *_command(*self._pending)))
        step = self._search.next(kind, self._unseen, cursor=self._cursor, exhausted=kind in self._exhausted)
        if step.exhausted:
            self._exhausted.add(kind)
        options = tuple(dict.fromkeys(map(kind_of, self._names))) if step.random else ()
        return Turn((*subject, *absent, *step.parts), options)
