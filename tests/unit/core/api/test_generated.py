"""The runs that the API server and Python's types are compared on: enough of each, and each rule both ways."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from distillery.core.api import DistillationRun, InvalidRun, parse
from distillery.core.api.problems import lookup
from distillery.core.api.rules import RULES
from tests.e2e.support.generated import (
    KNOWN_DIFFERENCES,
    NAMES_TO_REFUSE,
    NAMES_TO_TAKE,
    RULE_CASES,
    documents,
    refuses,
    rules_of_fields,
)
from tests.unit.documents import document


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    return documents()


def read(run: dict[str, Any]) -> DistillationRun | None:
    """A run that is valid but for rules between fields."""
    try:
        return DistillationRun.model_validate(run, strict=False)
    except ValidationError:
        return None


def fields_to_blame(run: dict[str, Any]) -> set[str]:
    try:
        parse(run)
    except InvalidRun as error:
        return {problem.path for problem in error.problems}
    return set()


def test_runs_are_accepted_and_refused_by_a_third_each(runs: list[dict[str, Any]]):
    accepted = sum(not refuses(run) for run in runs)
    assert len(runs) >= 500
    assert len(runs) / 3 <= accepted <= len(runs) * 2 / 3


def test_documents_are_the_same_when_generated_again():
    assert documents(20) == documents(20)


def test_runs_hold_and_break_every_rule_between_fields(runs: list[dict[str, Any]]):
    specs = [run.spec for run in map(read, runs) if run]
    for rule in RULES:
        assert {rule.holds(spec) for spec in specs} == {True, False}, rule.path


@pytest.mark.parametrize(("rule", "cases"), list(zip(RULES, RULE_CASES, strict=True)), ids=[r.path for r in RULES])
def test_rule_case_breaks_that_rule_alone(rule: Any, cases: tuple[dict[str, Any], dict[str, Any]]):
    broken = [read(document(environment={"maxSteps": 15}, **{**case})) for case in cases]
    assert all(broken)
    assert [[r for r in RULES if run and not r.holds(run.spec)] for run in broken] == [[rule], []]


def test_runs_hold_and_break_every_rule_of_a_field(runs: list[dict[str, Any]]):
    for path, _ in rules_of_fields():
        with_it = [run for run in runs if lookup(run, f"spec.{path}") is not None]
        blamed = [{field[: len(path) + 5] for field in fields_to_blame(run)} for run in with_it]
        assert any(not fields for fields in blamed), path
        assert any(fields == {f"spec.{path}"} for fields in blamed), path


def test_names_are_accepted_or_refused_as_listed(runs: list[dict[str, Any]]):
    judged = {run["metadata"]["name"]: "metadata.name" not in fields_to_blame(run) for run in runs}
    assert judged == {**dict.fromkeys(NAMES_TO_TAKE, True), **dict.fromkeys(NAMES_TO_REFUSE, False)}


@pytest.mark.parametrize("spec", KNOWN_DIFFERENCES)
def test_python_refuses_the_known_differences(spec: dict[str, Any]):
    assert refuses(document(**spec))
