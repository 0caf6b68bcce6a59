"""Several seeds taken together: tasks are the units, whether seeds share them or not."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.core.api import parse
from distillery.evaluation.arms import ArmResults, compare, pool_runs
from scripts.science import conclude, markdown, with_seed
from tests.unit.documents import document


def arm(prefix: str, *outcomes: int) -> ArmResults:
    rows: list[dict[str, Any]] = [
        {
            "task_id": f"{prefix}{number}", "seed": 0, "success": bool(success), "score": float(success),
            "stop_reason": "success" if success else "steps", "steps": 5, "invalid_actions": 0, "prompt_tokens": 90,
            "completion_tokens": 10, "cached_tokens": None, "turns": 4, "cut_replies": 0,
        }
        for number, success in enumerate(outcomes)
    ]  # fmt: skip
    return ArmResults(rows)


def two_seeds(*, shared: bool) -> dict[str, dict[str, ArmResults]]:
    first, second = ("t", "t") if shared else ("a", "b")
    return {
        "seed-0": {"baseline": arm(first, 0, 0, 0, 1), "sft": arm(first, 1, 1, 1, 1), "rag": arm(first, 1, 1, 1, 1)},
        "seed-1": {"baseline": arm(second, 0, 0, 1, 0), "sft": arm(second, 1, 1, 1, 0)},
    }


def test_tasks_are_pooled_for_an_exact_test_when_each_seed_has_its_own():
    found = conclude(two_seeds(shared=False), ["generated"], "success")
    (comparison,) = found["comparisons"]
    assert (comparison["tasks"], comparison["onlyA"], comparison["onlyB"]) == (8, 5, 0)
    assert comparison["test"] == "exact McNemar"
    assert comparison["p"] == pytest.approx(2 / 2**5)
    assert (found["arms"]["sft"]["n"], found["arms"]["sft"]["successes"]) == (8, 7)


def test_shared_tasks_are_not_counted_twice():
    found = conclude(two_seeds(shared=True), ["ALFWorld"], "success")
    (comparison,) = found["comparisons"]
    assert (comparison["tasks"], comparison["test"]) == (4, "sign-flip permutation")
    assert comparison["difference"] == pytest.approx(5 / 8)


def test_arm_is_left_out_when_a_seed_lacks_it():
    assert list(pool_runs(list(two_seeds(shared=False).values()))) == ["baseline", "sft"]


def test_page_lists_every_seed():
    page = "\n".join(markdown(conclude(two_seeds(shared=False), ["generated"], "success")))
    assert "| sft | 8 | 87.5 |" in page
    assert "100.0, 75.0 |" in page
    assert "| sft | baseline | +75.0, +50.0 | 8 |" in page
    assert "2 seeds; tasks: generated. Tests: exact McNemar." in page
    assert "one trained adapter per arm and seed" in page


def test_pair_is_compared_once_when_two_arms_have_the_same_student():
    arms = {name: arm("t", 1, 1, 0, 0) for name in ("baseline", "sft", "distilled", "distilled-matched")}
    found = [(c["a"], c["b"]) for c in compare(arms, "success", same_as={"sft-matched": "sft"})]
    assert found[-2:] == [("distilled", "sft"), ("distilled-matched", "sft")]
    both = {"sft-matched": "sft", "distilled-matched": "distilled"}
    del arms["distilled-matched"]
    found = [(c["a"], c["b"]) for c in compare(arms, "success", same_as=both)]
    assert found == [("sft", "baseline"), ("distilled", "baseline"), ("distilled", "sft")]


def test_matched_students_are_compared_only_with_matched_students():
    arms = {name: arm("t", 1, 0) for name in ("baseline", "sft", "placebo-distilled", "distilled-matched")}
    assert {c["b"] for c in compare(arms, "success") if c["a"] == "distilled-matched"} == {"baseline"}


def test_seeded_run_has_its_own_name_and_seeds():
    run = parse(document(environment={"options": {"games": "generated"}}))
    zero, one = with_seed(run, 0), with_seed(run, 1)
    assert (zero.metadata.name, one.metadata.name) == ("test-seed-0", "test-seed-1")
    assert one.spec.environment.options == {"games": "generated", "seed": 1}
    assert (one.spec.environment.tasks.seed, one.spec.training.seed) == (1, 1)
