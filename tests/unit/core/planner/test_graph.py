"""The graph of stages: their names, who plays in each, and what each student learns from."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.core.api import Spec, parse
from distillery.core.api.rules import LEARNING, RESERVED, UNTRAINED
from distillery.core.api.spec.evaluation import BUILTIN_ARMS
from distillery.core.planner import Dataset, Kind, Model, Stage, StageId
from distillery.core.planner.graph import BASE, Lineage, artifact_of, round_stages
from distillery.core.planner.plays import (
    CONFIRMING_ARMS,
    CONTROL,
    PRODUCTION,
    Strategies,
    teacher_plays_alike,
    teaching_temperature,
)
from tests.unit.documents import document


def spec_of(**parts: Any) -> Spec:
    return parse(document(**parts)).spec


def stages_of(*arms: str, **parts: Any) -> dict[str, Stage]:
    """The stages of the first round with these arms, by their names."""
    spec = spec_of(evaluation={"arms": ["baseline", "distilled", *arms]}, **parts)
    return {str(stage.id): stage for stage in round_stages(spec, 1, Lineage())}


def test_stage_id_has_round_0_when_its_name_only_begins_with_r():
    assert StageId.parse("rollout") == StageId(0, Kind.ROLLOUT)


@pytest.mark.parametrize(
    ("arm", "retriever"),
    [
        ("baseline", "none"), ("own", "none"), ("distilled", "none"), ("teacher", "frequent"), ("rag", "frequent"),
        ("distilled+rag", "frequent"), ("placebo", "random"), ("placebo-teacher", "random"), ("own-sft", "none"),
        ("base", "none"),
    ],
)  # fmt: skip
def test_retriever_follows_the_arm(arm: str, retriever: str):
    assert Strategies.of(spec_of(hints={"retriever": "frequent"})).retriever_of(arm) == retriever


@pytest.mark.parametrize(("of_teacher", "expected"), [(None, 0.3), (0.0, 0.0), (0.7, 0.7)])
def test_teacher_has_the_students_temperature_unless_it_has_its_own(of_teacher: float | None, expected: float):
    spec = spec_of(rollout={"temperature": 0.3}, teacherRollout={"temperature": of_teacher})
    assert teaching_temperature(spec) == expected


TEACHER = {"student": {"model": "/models/tiny"}, "teacher": {"model": "/models/large"}}


@pytest.mark.parametrize(
    ("parts", "alike"),
    [
        ({}, True),
        ({"teacherRollout": {"temperature": 0.7}}, False),
        ({"models": TEACHER}, False),
        ({"models": TEACHER, "teacherRollout": {"temperature": 0.7}}, False),
    ],
)
def test_teacher_plays_alike_with_one_model_and_temperature(parts: dict[str, Any], alike: bool):
    assert teacher_plays_alike(spec_of(**parts)) is alike


@pytest.mark.parametrize(("models", "player"), [({}, BASE), ({"models": TEACHER}, Model("teacher"))])
def test_teacher_is_the_player_unless_the_run_names_one(models: dict[str, Any], player: Model):
    stages = stages_of("placebo-distilled", **models)
    assert (stages["r1-teach"].player, stages["r1-teach-placebo"].player) == (player, player)


def test_teaching_stages_play_the_arms_of_their_names():
    stages = stages_of("placebo-distilled")
    assert (stages["r1-teach"].arms, stages["r1-teach-placebo"].arms) == (("teacher",), ("placebo-teacher",))


@pytest.mark.parametrize(
    ("student", "learned_from"),
    [
        ("distilled", {"r1-teach"}),
        ("sft", {"r1-rollout", "r1-teach"}),
        ("placebo-distilled", {"r1-teach-placebo", "r1-teach"}),
        ("sft-matched", {"r1-rollout", "r1-teach"}),
    ],
)
def test_student_needs_the_stages_that_it_learns_from(student: str, learned_from: set[str]):
    stages = stages_of("sft", "placebo-distilled", "sft-matched", "distilled-matched")
    needed = {str(stage) for stage in stages[f"r1-train-{student}"].needs}
    assert needed == {"prepare", "r1-evaluate-baseline", *learned_from}


def test_matched_arms_are_those_of_matched_students():
    arms = ["baseline", "sft", "distilled", "placebo-distilled", "sft-matched", "distilled-matched"]
    assert Strategies.of(spec_of(evaluation={"arms": arms})).matched_arms == ("own", "teacher")


def test_student_is_found_by_its_dataset_when_it_is_evaluated():
    arms = ["baseline", "distilled", "sft-matched", "distilled-matched"]
    strategies = Strategies.of(spec_of(evaluation={"arms": arms}))
    assert strategies.find_student(Dataset("own", matched=True)) == "sft-matched"
    assert strategies.find_student(Dataset("own")) is None


def test_arms_of_the_resource_are_those_of_the_table():
    strategies = Strategies.of(spec_of())
    assert {*BUILTIN_ARMS} == {*strategies.evaluated, *strategies.students, "distilled+rag"}
    assert {*UNTRAINED} == {*strategies.evaluated}
    assert {*LEARNING} == {*strategies.learning} - {CONTROL}
    assert {*strategies.learning, *strategies.evaluated, *strategies.students, *CONFIRMING_ARMS, PRODUCTION} <= RESERVED


ADDED: dict[str, Any] = {
    "plays": [
        {"name": "mismatched-teacher", "hints": "mismatched"},
        {"name": "inert", "tasks": "evaluate", "player": "base", "hints": "inert"},
    ],
    "students": [{"name": "mismatched-distilled", "learnsFrom": "mismatched-teacher"}],
}


def added(**parts: Any) -> dict[str, Stage]:
    return stages_of("inert", "mismatched-distilled", "mismatched-distilled+rag", **ADDED, **parts)


def test_play_of_a_run_has_a_stage_when_a_student_learns_from_it():
    stages = added()
    teach = stages["r1-teach-mismatched-teacher"]
    assert (teach.player, teach.arms) == (BASE, ("mismatched-teacher",))
    assert teach.id in stages["r1-train-mismatched-distilled"].needs
    evaluated = stages["r1-evaluate-mismatched-distilled"].arms
    assert evaluated == ("mismatched-distilled", "mismatched-distilled+rag")
    assert stages["r1-evaluate-baseline"].arms == ("baseline", "inert")


def test_play_of_a_run_gets_the_hints_that_it_names():
    strategies = Strategies.of(spec_of(evaluation={"arms": ["baseline", "distilled"]}, **ADDED))
    names = ("mismatched-teacher", "inert", "mismatched-distilled", "mismatched-distilled+rag")
    assert [strategies.retriever_of(name) for name in names] == ["mismatched", "inert", "none", "embedding"]


def test_play_has_no_stage_when_nothing_learns_from_it():
    assert "r1-teach-mismatched-teacher" not in stages_of(plays=ADDED["plays"])


def test_teachers_own_model_plays_the_arms_that_name_it():
    plays = [{"name": "taught", "tasks": "evaluate", "hints": "embedding"}]
    stages = stages_of("taught", plays=plays, models=TEACHER)
    assert (stages["r1-evaluate-teacher"].player, stages["r1-evaluate-teacher"].arms) == (Model("teacher"), ("taught",))
    assert stages_of("taught", plays=plays)["r1-evaluate-baseline"].arms == ("baseline", "taught")


@pytest.mark.parametrize(
    ("stage", "artifact"),
    [
        ("prepare", "prepare-100"), ("r1-evaluate-sft", "r1-evaluate-sft-100"), ("r1-promote", "r1-promote-100"),
        ("r1-rollout", "r1-rollout"), ("r1-train-sft", "r1-train-sft"),
    ],
)  # fmt: skip
def test_artifact_has_the_number_of_tasks_when_it_depends_on_it(stage: str, artifact: str):
    assert artifact_of(StageId.parse(stage), 100) == artifact
