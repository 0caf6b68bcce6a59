"""The texts of the game: TextWorld's grammar, parsed by TextWorld once and then only evaluated.

TextWorld parses the template of every admissible command again at every step, which takes nearly all of its time,
and copies the context of every symbol. Here each template is compiled, at its first use, to a closure over
(scene, binding). The closures produce the same text as TextWorld 1.7.0's ``ContextSensitiveGrammar.derive``; the
integration tests compare the two.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from textworld.envs.pddl import textgen
from textworld.envs.pddl.logic import GameLogic
from textworld.logic import Rule

from distillery_alfworld.pddl_reader import Domain, Fact

TASK_PLACEHOLDER = "UNKNOWN GOAL"
"""The text in ALFWorld's own grammar that stands for the task's sentence."""

_TASK = re.compile(r'(?<="Your task is to: )[^"\\;|<>\[\]#{}/]*(?=\.")')

Binding = dict[str, str]
"""From the name of a placeholder, such as ``r``, to an entity."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The facts and names that the texts describe.

    Attributes:
        facts: the true propositions by predicate; those that an action made false are under ``not_`` + predicate.
        names: the name of each entity.
    """

    facts: dict[str, set[Fact]]
    names: Mapping[str, str]


Text = Callable[[Scene, Binding], str]
_Texts = Callable[[Scene, Binding], list[str]]
_Atom = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ActionText:
    """The two texts of an action: ``command`` as the player types it, ``feedback`` as the game answers."""

    command: Text
    feedback: Text


class Grammar:
    """A compiled grammar.

    Attributes:
        actions: the texts of each action.
        opening: the text of a reset, with :data:`TASK_PLACEHOLDER` in it.
    """

    def __init__(self, text: str, domain: Domain) -> None:
        """Compile a grammar whose commands and queries fit the domain. Raises :class:`ValueError` where they don't."""
        logic = GameLogic(domain="", grammar=text)
        self._domain = domain
        self._types: dict[str, str] = {}
        self._rules = logic.grammar._rules
        self._compiled: dict[str, tuple[Text, set[str]]] = {}
        self.opening = self._compile_template("#intro#")
        self.actions: dict[str, ActionText] = {}
        for name in domain.actions.keys() & logic.actions.keys():
            for parameter, type_ in domain.actions[name]:
                self._check_type(parameter, type_)
            asked: set[str] = set()
            command = self._compile_template(logic.actions[name].template, asked)
            if changing := asked & domain.fluents:
                # The engine derives the command of an operator once for a whole game.
                raise ValueError(f"the command of the action {name} depends on what changes: {', '.join(changing)}")
            self.actions[name] = ActionText(command, self._compile_template(logic.actions[name].feedback_rule))

    def _check_type(self, placeholder: str, type_: str) -> None:
        """Bindings go by name alone, so a name must keep its type."""
        if self._types.setdefault(placeholder, type_) != type_:
            raise ValueError(f"the placeholder {placeholder} is both {self._types[placeholder]} and {type_}")

    def _compile_template(self, text: str, asked: set[str] | None = None) -> Text:
        symbols = textgen._parse_and_convert(text, rule_name="symbols")
        return self._compile_sequence(symbols, set() if asked is None else asked)

    def _compile_sequence(self, symbols: list[Any], asked: set[str]) -> Text:
        parts = [self._compile_symbol(symbol, asked) for symbol in symbols]
        return lambda scene, binding: "".join([part(scene, binding) for part in parts])

    def _compile_symbol(self, symbol: Any, asked: set[str]) -> Text:
        match symbol:
            case textgen.TerminalSymbol():
                literal = str(symbol)
                return lambda scene, binding: literal
            case textgen.NonterminalSymbol():
                return self._compile_rule(str(symbol), asked)
            case textgen.EvalSymbol():
                return _compile_expression(ast.parse(symbol.expression.strip(), mode="eval").body)
            case textgen.ConditionalSymbol():
                texts = self._compile_each(symbol, asked)
                return lambda scene, binding: "".join(texts(scene, binding))
            case textgen.ListSymbol(symbol=textgen.ConditionalSymbol() as items):
                texts = self._compile_each(items, asked)
                empty, comma, last = (
                    self._compile_rule(f"list_{part}", asked) for part in ("empty", "separator", "last_separator")
                )
                return lambda scene, binding: _join_items(
                    texts(scene, binding), empty(scene, binding), comma(scene, binding), last(scene, binding)
                )
            case _:
                raise ValueError(f"the grammar holds a symbol that this engine doesn't know: {symbol!r}")

    def _compile_each(self, symbol: textgen.ConditionalSymbol, asked: set[str]) -> _Texts:
        """Compile a symbol to one text for each way in which its condition holds."""
        text = self._compile_symbol(symbol.expression, asked)
        if not symbol.given:
            return lambda scene, binding: [text(scene, binding)]
        query = self._compile_query(symbol.given, asked)
        return lambda scene, binding: [text(scene, found) for found in solve(query, scene, binding)]

    def _compile_rule(self, name: str, asked: set[str]) -> Text:
        """Compile a rule to its first alternative whose condition holds."""
        if name not in self._compiled:
            if name not in self._rules:
                raise ValueError(f"the grammar has no rule #{name}#")
            here: set[str] = set()
            alternatives = [
                (
                    self._compile_query(rule.condition, here) if rule.condition else (),
                    self._compile_sequence(rule.rhs, here),
                )
                for rule in self._rules[name]
            ]

            def choose(scene: Scene, binding: Binding) -> str:
                for condition, text in alternatives:
                    if next(solve(condition, scene, binding), None) is not None:
                        return text(scene, binding)
                raise ValueError(f"no alternative of the rule #{name}# applies")

            self._compiled[name] = choose, here
        text, asked_in_rule = self._compiled[name]
        asked |= asked_in_rule
        return text

    def _compile_query(self, text: str, asked: set[str]) -> tuple[_Atom, ...]:
        atoms: list[_Atom] = []
        for predicate in Rule.parse_conjunctive_query(text).preconditions:
            declared = self._domain.predicates.get(predicate.name.removeprefix("not_"))
            if declared != tuple(placeholder.type for placeholder in predicate.parameters):
                # TextWorld would look at subtypes too, in an order of its own.
                raise ValueError(f"the grammar asks for {predicate}, which the domain declares as {declared}")
            for placeholder in predicate.parameters:
                self._check_type(placeholder.name, placeholder.type)
            asked.add(predicate.name.removeprefix("not_"))
            atoms.append((predicate.name, tuple(placeholder.name for placeholder in predicate.parameters)))
        return tuple(atoms)


@lru_cache(maxsize=8)
def _compile_grammar(text: str, domain: Domain) -> Grammar:
    return Grammar(text, domain)


def read_grammar(text: str, domain: Domain) -> tuple[Grammar, str]:
    """Return the grammar of a game file, and its task's sentence.

    The games of ALFWorld differ in that sentence only, so that one compiled grammar serves them all.
    """
    sentences = _TASK.findall(text)
    if len(sentences) != 1:
        return _compile_grammar(text, domain), TASK_PLACEHOLDER
    return _compile_grammar(_TASK.sub(TASK_PLACEHOLDER, text), domain), sentences[0]


def solve(query: tuple[_Atom, ...], scene: Scene, binding: Binding) -> Iterator[Binding]:
    """Yield all extensions of a binding that make every atom of a conjunctive query true.

    The order is TextWorld's: atom by atom, propositions in alphabetical order. As there, two placeholders never
    stand for the same entity.
    """
    if not query:
        yield binding
        return
    (predicate, placeholders), rest = query[0], query[1:]
    facts = scene.facts.get(predicate, ())
    if all(placeholder in binding for placeholder in placeholders):
        if tuple(binding[placeholder] for placeholder in placeholders) in facts:
            yield from solve(rest, scene, binding)
        return
    taken = set(binding.values())
    for _, added in sorted((fact, new) for fact in facts if (new := _match(placeholders, fact, binding, taken))):
        yield from solve(rest, scene, binding | dict(added))


def _match(placeholders: tuple[str, ...], fact: Fact, binding: Binding, taken: set[str]) -> list[tuple[str, str]]:
    """Return the bindings that a proposition adds; none where it doesn't fit."""
    new: Binding = {}
    for placeholder, entity in zip(placeholders, fact, strict=True):
        expected = binding.get(placeholder) or new.get(placeholder)
        if expected is None and entity not in taken and entity not in new.values():
            new[placeholder] = entity
        elif expected != entity:
            return []
    return list(new.items())


def _join_items(items: list[str], empty: str, comma: str, last: str) -> str:
    if len(items) < 2:
        return items[0] if items else empty
    return comma.join(items[:-1]) + last + items[-1]


def _compile_expression(node: ast.expr) -> Text:
    """Compile an expression such as ``o.indefinite + ' ' + o.name``.

    TextWorld hands it to ``eval``; a game file is data, so only what the grammars use is understood.
    """
    match node:
        case ast.Constant(value=str(literal)):
            return lambda scene, binding: literal
        case ast.Name(id=placeholder) | ast.Attribute(value=ast.Name(id=placeholder), attr="name"):
            return lambda scene, binding: scene.names[binding[placeholder]]
        case ast.Attribute(value=ast.Name(id=placeholder), attr="id"):
            return lambda scene, binding: binding[placeholder]
        case ast.Attribute(value=ast.Name(), attr="indefinite"):
            return lambda scene, binding: "a"
        case ast.Attribute(value=ast.Name(), attr="definite"):
            return lambda scene, binding: "the"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = _compile_expression(left), _compile_expression(right)
            return lambda scene, binding: first(scene, binding) + second(scene, binding)
        case ast.BoolOp(op=ast.Or(), values=values):
            choices = [_compile_expression(value) for value in values]
            return lambda scene, binding: next((t for choice in choices if (t := choice(scene, binding))), "")
        case _:
            raise ValueError(f"the grammar holds an expression that this engine doesn't know: {ast.unparse(node)}")
