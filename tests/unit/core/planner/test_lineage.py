"""The models that a round starts with: the promoted student, and each control's own."""

from __future__ import annotations

from typing import Any

from distillery.core.api import Spec, parse
from distillery.core.planner import Kind, Model, Promotion, Stage, StageId
from distillery.core.planner.graph import BASE, Lineage, round_stages, student_model
from tests.unit.documents import document


def candidate_of(round: int) -> Model:
    return student_model(round, "distilled")


ARMS = ["baseline", "rag", "placebo", "sft", "distilled", "placebo-distilled"]
STUDENTS = {"sft": "5f", "distilled": "d1", "placebo-distilled": "b0"}


def spec_of(arms: list[str] = ARMS, **parts: Any) -> Spec:
    return parse(document(evaluation={"arms": arms}, rounds={"maxRounds": 9}, **parts)).spec


def ended(*, promoted: bool, students: dict[str, str] = STUDENTS) -> Promotion:
    return Promotion("Successful" if promoted else "Inconclusive", "Because.", promoted, 0.5, {}, students)


def lineage_after(*ends: Promotion, spec: Spec | None = None) -> Lineage:
    """The lineage after rounds that ended so."""
    lineage = Lineage()
    for number, end in enumerate(ends, 1):
        lineage = lineage.after(spec or spec_of(), number, end)
    return lineage


def second_round(lineage: Lineage, spec: Spec | None = None) -> dict[str, Stage]:
    return {str(stage.id): stage for stage in round_stages(spec or spec_of(), 2, lineage)}


def student(name: str, round: int = 1) -> Model:
    return Model("student", StageId(round, Kind.TRAIN, name))


def test_loop_continues_from_the_promoted_student():
    stages = second_round(lineage_after(ended(promoted=True)))
    for name in ("r2-rollout", "r2-teach", "r2-evaluate-baseline"):
        assert stages[name].player == candidate_of(1)


def test_control_continues_from_its_own_student_after_a_promotion():
    stages = second_round(lineage_after(ended(promoted=True)))
    assert stages["r2-rollout-sft"].player == student("sft")
    assert stages["r2-teach-placebo"].player == student("placebo-distilled")


def test_base_model_plays_its_arms_in_every_round():
    first = {str(stage.id): stage for stage in round_stages(spec_of(), 1, Lineage())}
    assert first["r1-evaluate-baseline"].arms == ("baseline", "rag", "placebo")
    stages = second_round(lineage_after(ended(promoted=True)))
    base = stages["r2-evaluate-base"]
    assert (base.player, base.arms) == (BASE, ("base", "rag", "placebo"))
    assert stages["r2-evaluate-baseline"].arms == ("baseline",)


def test_verdict_needs_what_the_base_model_played():
    stages = second_round(lineage_after(ended(promoted=True)))
    assert StageId(2, Kind.EVALUATE, "base") in stages["r2-promote"].needs


def test_sft_learns_from_its_own_play_and_waits_for_it():
    spec, lineage = spec_of(), lineage_after(ended(promoted=True), ended(promoted=False))
    sft = next(stage for stage in round_stages(spec, 3, lineage) if str(stage.id) == "r3-train-sft")
    assert sft.own_arms == ("own", "own-sft", "own-sft")
    assert StageId(3, Kind.ROLLOUT, "sft") in sft.needs
    assert StageId(3, Kind.ROLLOUT) not in sft.needs


def test_round_without_a_promotion_changes_nobody():
    spec, nobody = spec_of(), lineage_after(ended(promoted=False))
    assert (nobody.start, nobody.controls) == (BASE, {})
    assert [str(stage.id)[3:] for stage in round_stages(spec, 2, nobody)] == [
        "sample",
        *(str(stage.id)[3:] for stage in round_stages(spec, 1, Lineage())),
    ]
    kept = lineage_after(ended(promoted=True), ended(promoted=False))
    assert (kept.start, kept.controls["sft"]) == (candidate_of(1), student("sft"))


def test_control_is_the_base_model_when_it_had_nothing_to_learn_from():
    lineage = lineage_after(ended(promoted=True, students={"distilled": "d1"}))
    stages = second_round(lineage)
    assert (stages["r2-rollout-sft"].player, stages["r2-teach-placebo"].player) == (BASE, BASE)


def test_control_keeps_an_earlier_student_when_a_later_round_trained_none():
    lineage = lineage_after(ended(promoted=True), ended(promoted=True, students={"distilled": "d2"}))
    assert (lineage.start, lineage.controls["sft"]) == (candidate_of(2), student("sft"))


def test_teachers_are_the_runs_own_model_in_every_round():
    models = {"student": {"model": "/models/tiny"}, "teacher": {"model": "/models/large"}}
    stages = second_round(lineage_after(ended(promoted=True)), spec_of(models=models))
    assert {stages[name].player for name in ("r2-teach", "r2-teach-placebo")} == {Model("teacher")}
    assert stages["r2-rollout-sft"].player == student("sft")


def test_no_control_plays_when_no_student_learns_from_it():
    spec = spec_of(["baseline", "distilled"])
    lineage = lineage_after(ended(promoted=True), spec=spec)
    names = [str(stage.id) for stage in round_stages(spec, 2, lineage)]
    assert names == [
        "r2-sample", "r2-rollout", "r2-hints", "r2-teach", "r2-evaluate-baseline", "r2-evaluate-base",
        "r2-train-distilled", "r2-evaluate-distilled", "r2-promote",
    ]  # fmt: skip


def test_control_is_the_plain_student_before_its_variants():
    spec = spec_of(["baseline", "distilled", "sft-unfiltered", "sft"])
    lineage = lineage_after(ended(promoted=True, students={"sft-unfiltered": "0f", **STUDENTS}), spec=spec)
    assert second_round(lineage, spec)["r2-rollout-sft"].player == student("sft")


def test_loop_continues_from_the_student_that_the_gate_names():
    spec = spec_of(promotion={"gate": {"candidate": "sft"}})
    stages = second_round(lineage_after(ended(promoted=True), spec=spec), spec)
    assert stages["r2-rollout"].player == stages["r2-evaluate-baseline"].player == student("sft")
    assert stages["r2-teach"].player == student("distilled")
    assert "r2-rollout-sft" not in stages
    assert StageId(2, Kind.TRAIN, "sft") in stages["r2-promote"].needs


def test_later_round_samples_its_tasks_before_it_plays():
    stages = second_round(Lineage())
    for name in ("r2-rollout", "r2-teach"):
        assert StageId(2, Kind.SAMPLE) in stages[name].needs
    assert "r1-sample" not in [str(stage.id) for stage in round_stages(spec_of(), 1, Lineage())]


def confirmed(lineage: Lineage) -> dict[str, Stage]:
    return second_round(lineage, spec_of(environment={"tasks": {"train": 2, "evaluate": 10, "confirm": 10}}))


def test_candidate_and_start_play_fresh_tasks_after_the_first_look():
    stages = confirmed(lineage_after(ended(promoted=True)))
    of_start, of_candidate = (stages[f"r2-evaluate-confirm-{arm}"] for arm in ("baseline", "candidate"))
    assert (of_start.player, of_candidate.player) == (candidate_of(1), candidate_of(2))
    assert StageId(2, Kind.EVALUATE, "distilled") in stages["r2-judge"].needs
    for stage in (of_start, of_candidate):
        assert StageId(2, Kind.JUDGE) in stage.needs
        assert stage.id in stages["r2-promote"].needs


def test_no_candidate_is_confirmed_without_tasks_for_it():
    assert "r2-judge" not in second_round(Lineage())


def test_training_continues_from_the_student_of_its_lineage():
    spec = spec_of(training={"start": "previous"})
    lineage = lineage_after(ended(promoted=True), spec=spec)
    trainings = {name: stage.adapter for name, stage in second_round(lineage, spec).items() if "train-" in name}
    assert trainings == {
        f"r2-train-{name}": StageId(1, Kind.TRAIN, name) for name in ("sft", "distilled", "placebo-distilled")
    }
    first = round_stages(spec, 1, Lineage())
    assert {stage.adapter for stage in first} == {None}
    assert {stage.adapter for stage in second_round(lineage_after(ended(promoted=True))).values()} == {None}
