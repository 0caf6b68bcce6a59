"""Readers of the PDDL that the engine needs next to the translated game: parameters, types and initial facts.

Source of the language: PDDL 2.1 (Fox and Long, 2003), the part that ALFRED's domain uses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_COMMENT = re.compile(r";[^\n]*")
_WORD = re.compile(r"[()]|[^\s()]+")

Fact = tuple[str, ...]
"""The arguments of a true proposition, such as ``("mug_1", "desk_1")`` of ``inreceptacle``."""


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """The parts that all games of a domain share. Compared by identity: :func:`read_domain` gives one object for one
    text.

    Attributes:
        actions: the parameters of each action as (name, type), without question marks.
        predicates: the types of each predicate's arguments.
        fluents: the predicates that some action changes.
    """

    actions: dict[str, tuple[tuple[str, str], ...]]
    predicates: dict[str, tuple[str, ...]]
    fluents: frozenset[str]


@dataclass(frozen=True, slots=True)
class PddlProblem:
    """One game's start.

    Attributes:
        types: the type of each entity.
        facts: the true propositions, by predicate.
    """

    types: dict[str, str]
    facts: dict[str, set[Fact]]


@lru_cache(maxsize=8)
def read_domain(text: str) -> Domain:
    """Read a domain. Raises :class:`ValueError` where it isn't PDDL."""
    sections = _read_sections(text)
    predicates = {
        entry[0]: tuple(type_ for _, type_ in _read_typed(entry[1:]))
        for section in sections
        if section[0] == ":predicates"
        for entry in section[1:]
    }
    actions: dict[str, tuple[tuple[str, str], ...]] = {}
    fluents: set[str] = set()
    for section in sections:
        if section[0] == ":action":
            parts = dict(zip(section[2::2], section[3::2], strict=True))
            actions[section[1]] = tuple((name.lstrip("?"), type_) for name, type_ in _read_typed(parts[":parameters"]))
            fluents |= _find_heads(parts[":effect"]) & predicates.keys()
    return Domain(actions, predicates, frozenset(fluents))


def read_problem(text: str) -> PddlProblem:
    """Read a problem. Raises :class:`ValueError` where it isn't PDDL."""
    types: dict[str, str] = {}
    facts: dict[str, set[Fact]] = {}
    for section in _read_sections(text):
        if section[0] == ":objects":
            types.update(_read_typed(section[1:]))
        elif section[0] == ":init":
            for name, *arguments in section[1:]:
                if name != "=":  # a distance, which no text shows
                    facts.setdefault(name, set()).add(tuple(arguments))
    return PddlProblem(types, facts)


def _read_sections(text: str) -> list[list[Any]]:
    """Return the parts of ``(define ...)``, as nested lists of lower-case words."""
    stack: list[list[Any]] = [[]]
    for word in _WORD.findall(_COMMENT.sub("", text).lower()):
        if word == "(":
            stack.append([])
        elif word == ")":
            if len(stack) == 1:
                raise ValueError("PDDL has a closing parenthesis too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    if len(stack) > 1 or len(stack[0]) != 1 or stack[0][0][:1] != ["define"]:
        raise ValueError("PDDL is not one whole (define ...)")
    return stack[0][0][1:]


def _read_typed(words: Sequence[str]) -> list[tuple[str, str]]:
    """Read ``a b - t c`` as pairs (a, t), (b, t), (c, object)."""
    pairs: list[tuple[str, str]] = []
    untyped: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "-":
            type_ = next(rest, "object")
            pairs += [(name, type_) for name in untyped]
            untyped = []
        else:
            untyped.append(word)
    return pairs + [(name, "object") for name in untyped]


def _find_heads(tree: list[Any]) -> set[str]:
    """Return the first word of every list in a nested list."""
    heads = {tree[0]} if tree and isinstance(tree[0], str) else set()
    return heads.union(*(_find_heads(branch) for branch in tree if isinstance(branch, list)))
