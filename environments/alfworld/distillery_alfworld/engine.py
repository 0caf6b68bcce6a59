"""One game being played: the same work as stock ALFWorld's at a reset and at a step, each piece of it done once.

Stock ALFWorld is TextWorld's ``PddlEnv`` under ALFWorld's ``AlfredDemangler``. Fast Downward holds the state, a grammar
writes the texts. Both are used here as they are; only the frequency differs:

* the translation to SAS is done once for each game and kept on disk (:mod:`.translation`), not four times a play;
* the grammar is parsed once in a process (:mod:`.grammar`), not at every admissible command of every step;
* the command of an operator, and its effects, are found once in a play;
* a reset returns to the first state instead of loading the game again.

Texts, admissible commands and the end are the stock engine's, byte for byte: the integration tests compare them.
Importing this module loads TextWorld (1 CPU second); see :mod:`.imports` for the versions that it was proven with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distillery_alfworld.grammar import TASK_PLACEHOLDER, Scene, read_grammar
from distillery_alfworld.pddl_reader import Fact, read_domain, read_problem
from distillery_alfworld.planner import Planner, decode_field
from distillery_alfworld.translation import translate


@dataclass(frozen=True, slots=True)
class Turn:
    """The game's answer to a reset or a command.

    Attributes:
        text: the answer; after a reset the banner, the room and the task.
        commands: the admissible commands, sorted.
        won: whether the task is done.
        accepted: whether the command was admissible.
    """

    text: str
    commands: tuple[str, ...]
    won: bool
    accepted: bool = True


@dataclass(slots=True)
class _Operator:
    """What is known of an operator of the planner's: its effects once it was applied, the rest once it was offered."""

    action: str
    binding: dict[str, str]
    command: str
    effect_count: int
    effects: list[tuple[bool, str, Fact]] | None = None


_idle: list[Planner] = []
"""Libraries whose games were closed. A C++ library can't be unloaded for good, so they are kept for the next games."""


class Game:
    """A game, from its file's content. Not thread-safe."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        """Load a game: ``pddl_domain``, ``pddl_problem`` and ``grammar`` of a game file.

        Raises:
            ValueError: one of them isn't understood; broken PDDL or grammars can raise other exceptions too.
        """
        self._domain = read_domain(content["pddl_domain"])
        self._grammar, self._task = read_grammar(content["grammar"], self._domain)
        problem = read_problem(content["pddl_problem"])
        for predicate, facts in problem.facts.items():
            declared = self._domain.predicates.get(predicate)
            if any(declared != tuple(problem.types.get(name) for name in fact) for fact in facts):
                raise ValueError(f"the problem states {predicate} of other types than the domain's {declared}")
        self._start = problem.facts
        self.names = demangle(name for facts in problem.facts.values() for fact in facts for name in fact)
        self._scene = Scene({}, self.names)
        self._operators: dict[int, _Operator] = {}
        self._offered: dict[str, int] = {}
        sas = translate(content["pddl_domain"], content["pddl_problem"])
        self._planner = _idle.pop() if _idle else Planner()
        self._planner.load(sas)
        self._first_state = self._planner.state

    def reset(self) -> Turn:
        """Start over."""
        self._planner.state = self._first_state
        self._scene = Scene({predicate: set(facts) for predicate, facts in self._start.items()}, self.names)
        opening = self._grammar.opening(self._scene, {}).replace(TASK_PLACEHOLDER, self._task)
        return self._make_turn(opening)

    def step(self, command: str) -> Turn:
        """Carry out a command; one that isn't admissible changes nothing."""
        offered = self._offered.get(command.strip())
        if offered is None:
            return self._make_turn("Nothing happens.", accepted=False)
        operator = self._operators[offered]
        self._apply(offered, operator)
        return self._make_turn(self._grammar.actions[operator.action].feedback(self._scene, operator.binding))

    def close(self) -> None:
        """Free the planner; the game can't be played any more."""
        self._planner.unload()
        _idle.append(self._planner)
        del self._planner

    def _apply(self, number: int, operator: _Operator) -> None:
        if operator.effects is None:
            operator.effects = self._planner.apply_with_effects(number, operator.effect_count)
        else:
            self._planner.apply(number)
        facts = self._scene.facts
        for true, predicate, arguments in operator.effects:
            # TextWorld keeps what an action made false as a fact of its own, and the grammar asks for it.
            holds, fails = (predicate, "not_" + predicate) if true else ("not_" + predicate, predicate)
            facts.get(fails, set()).discard(arguments)
            facts.setdefault(holds, set()).add(arguments)

    def _make_turn(self, text: str, *, accepted: bool = True) -> Turn:
        self._offered = offered = {}
        for number, name, effect_count in self._planner.list_applicable():
            operator = self._operators.get(number)
            if operator is None:
                operator = self._operators[number] = self._describe_operator(decode_field(name), effect_count)
            offered.setdefault(operator.command, number)  # of several with one command, the first is meant
        return Turn(text, tuple(sorted(offered)), self._planner.is_goal_reached(), accepted)

    def _describe_operator(self, name: str, effect_count: int) -> _Operator:
        """Return an operator from its name, such as ``openobject agent1 loc_3 fridge_1``."""
        action, *arguments = name.split()
        parameters = [parameter for parameter, _ in self._domain.actions[action]]
        binding = dict(zip(parameters, arguments, strict=True))
        command = self._grammar.actions[action].command(self._scene, binding)
        return _Operator(action, binding, command, effect_count)


def demangle(entities: Iterable[str]) -> dict[str, str]:
    """Return ALFWorld's names of a game's entities: ``fridge_bar__plus_01...`` becomes ``fridge 1``.

    Within a kind, the first in alphabetical order gets the highest number (``Demangler`` in alfworld 0.4.2).
    """
    ordered = sorted(set(entities))
    left = Counter(_find_kind(entity) for entity in ordered if "_bar_" in entity)
    names = {}
    for entity in ordered:
        if "_bar_" in entity:
            names[entity] = f"{_find_kind(entity)} {left[_find_kind(entity)]}"
            left[_find_kind(entity)] -= 1
        else:
            names[entity] = f"{entity} "  # the stock engine keeps the blank before a number that isn't there
    return names


def _find_kind(entity: str) -> str:
    """Return the kind of an entity: that of ``Sink|...|SinkBasin`` is sinkbasin."""
    return entity.partition("_bar_")[0] + ("basin" if "basin" in entity else "")
