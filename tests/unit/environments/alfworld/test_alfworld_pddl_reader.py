"""What the engine takes from PDDL."""

from __future__ import annotations

import pytest

from distillery_alfworld.pddl_reader import read_domain, read_problem

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


def test_read_domain_returns_parameters_types_and_fluents() -> None:
    domain = read_domain(DOMAIN)
    assert domain.actions == {"go": (("a", "agent"), ("from", "place"), ("to", "place"))}
    assert domain.predicates == {"at": ("agent", "place"), "holds": ("agent", "thing"), "heavy": ("object",)}
    assert domain.fluents == {"at"}


def test_read_problem_returns_types_and_distinct_facts() -> None:
    problem = read_problem(PROBLEM)
    assert problem.types == {"me": "agent", "here": "place", "there": "place"}
    assert problem.facts == {"at": {("me", "here")}}


@pytest.mark.parametrize("text", ["", "(define (problem one)", "(define (problem one)))", "(problem one)"])
def test_reader_refuses_incomplete_pddl(text: str) -> None:
    with pytest.raises(ValueError, match="PDDL"):
        read_problem(text)
