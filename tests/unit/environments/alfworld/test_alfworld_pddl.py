"""What the engine takes from PDDL."""

from __future__ import annotations

import pytest

from distillery.environments.alfworld.pddl import read_domain, read_problem

DOMAIN = """
;; a comment (with a parenthesis
(define (domain tiny)
 (:types agent place thing)
 (:predicates (At ?a - agent ?p - place) (holds ?a - agent ?x - thing) (heavy ?x))
 (:action Go
    :parameters (?a - agent ?from ?to - place)
    :precondition (At ?a ?from)
    :effect (and (not (At ?a ?from)) (At ?a ?to) (increase (total-cost) 1)))
)
"""
PROBLEM = """
(define (problem one) (:domain tiny)
 (:objects me - agent Here there - place)
 (:init (At me Here) (AT ME HERE) (= (distance Here there) 3))
 (:goal (At me there)))
"""


def test_a_domain_tells_parameters_types_and_what_actions_change() -> None:
    domain = read_domain(DOMAIN)
    assert domain.actions == {"go": (("a", "agent"), ("from", "place"), ("to", "place"))}
    assert domain.predicates == {"at": ("agent", "place"), "holds": ("agent", "thing"), "heavy": ("object",)}
    assert domain.fluents == {"at"}


def test_a_problem_tells_types_and_true_facts_once_each() -> None:
    problem = read_problem(PROBLEM)
    assert problem.types == {"me": "agent", "here": "place", "there": "place"}
    assert problem.facts == {"at": {("me", "here")}}


@pytest.mark.parametrize("text", ["", "(define (problem one)", "(define (problem one)))", "(problem one)"])
def test_what_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="PDDL"):
        read_problem(text)
