"""Two runs side by side: their settings and their arms."""

from __future__ import annotations

from typing import Any

from distillery.cli.commands.compare import compare_arms, compare_settings
from distillery.core.api import parse
from distillery.core.api.problems import flatten
from distillery.evaluation.arms import ArmResults
from tests.unit.documents import document


def test_settings_are_compared_by_value_when_some_are_defaults():
    default = parse(document())
    written = parse(document(rounds={"maxRounds": default.spec.rounds.max_rounds}))
    assert compare_settings(default, written) == []
    other = parse(document(rounds={"maxRounds": 3}, evaluation={"arms": ["baseline", "distilled"]}))
    differences = {path: (first, second) for path, first, second in compare_settings(default, other)}
    assert differences["spec.rounds.maxRounds"] == (1, 3)
    assert differences["spec.evaluation.arms"][1] == ["baseline", "distilled"]
    assert len(differences) == 2


def test_flatten_keeps_lists_and_empty_mappings_as_values():
    assert flatten({"a": {"b": [1], "c": {}}, "d": None}, "spec") == {"spec.a.b": [1], "spec.a.c": {}, "spec.d": None}


def outcomes(**success: bool) -> ArmResults:
    rows: list[dict[str, Any]] = [{"task_id": task, "success": won} for task, won in success.items()]
    return ArmResults(rows)


def test_arms_are_compared_over_the_tasks_that_both_runs_share():
    first = {"baseline": outcomes(a=False, b=False), "rag": outcomes(a=True, b=True)}
    second = {"baseline": outcomes(a=True, b=True, c=True)}
    base, rag = compare_arms(first, second, same_tasks=True)
    assert (base.arm, base.first, base.second) == ("baseline", 0.0, 1.0)
    assert base.difference is not None
    assert (base.difference.tasks, base.difference.difference, base.difference.only_a) == (2, 1.0, 2)
    assert (rag.second, rag.difference) == (None, None)


def test_arms_are_not_compared_when_their_tasks_come_from_elsewhere():
    played = {"baseline": outcomes(a=True)}
    (base,) = compare_arms(played, played, same_tasks=False)
    assert base.difference is None
    assert compare_arms(played, {}, same_tasks=True) == []
