"""The stages of a run: their names, what each needs first, and which model plays in it.

This file is the loop as a graph. Both executors, local processes and Kubernetes Jobs, start exactly what stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from distillery.core.api.run import Spec
from distillery.core.planner.plays import (
    BASE_ARM,
    BASELINE,
    CONFIRM_BASELINE,
    CONFIRM_CANDIDATE,
    CONTROL,
    ON_POLICY,
    PLACEBO_TEACHER,
    TEACHER,
    Dataset,
    PlayerRole,
    Strategies,
)
from distillery.core.planner.results import Promotion


class Kind(StrEnum):
    """The kinds of stages; each is a module of :mod:`distillery.stages`."""

    PREPARE = "prepare"
    SAMPLE = "sample"
    ROLLOUT = "rollout"
    HINTS = "hints"
    TEACH = "teach"
    TRAIN = "train"
    EVALUATE = "evaluate"
    JUDGE = "judge"
    PROMOTE = "promote"


@dataclass(frozen=True, slots=True, order=True)
class StageId:
    """The name of a stage within a run. Round 0 holds what is done once, before the first round."""

    round: int
    kind: Kind
    variant: str = ""

    def __str__(self) -> str:
        parts = [f"r{self.round}"] if self.round else []
        parts.append(self.kind.value)
        if self.variant:
            parts.append(self.variant)
        return "-".join(parts)

    @classmethod
    def parse(cls, name: str) -> StageId:
        """Parse a name: the inverse of ``str``."""
        parts = name.split("-")
        round_ = int(parts.pop(0)[1:]) if parts[0][0] == "r" and parts[0][1:].isdigit() else 0
        return cls(round_, Kind(parts[0]), "-".join(parts[1:]))


@dataclass(frozen=True, slots=True)
class Model:
    """The player: the student's base model, the teacher's own model, or a student that a stage trained."""

    kind: str
    """``base``, ``teacher`` or ``student``."""

    trained_by: StageId | None = None
    """For a student: the stage whose result names its weights."""

    @property
    def name(self) -> str:
        """The stage that trained a student; of other models their kind."""
        return str(self.trained_by) if self.trained_by else self.kind


BASE = Model("base")


@dataclass(frozen=True, slots=True)
class Stage:
    """One unit of work with a typed result.

    Attributes:
        id: its name.
        needs: stages whose results it reads; all must have succeeded.
        player: the model that a server must serve while it runs; None if it needs no server.
        arms: the arms played (kinds rollout, teach and evaluate).
        dataset: what a student learns from (kind train).
        own_arms: by round, up to this one: the arm of own play that students learn from (kinds rollout and train).
        start: the name of the model that the round started with (kinds sample and promote).
        adapter: the stage whose adapter the training continues from (kind train); None for the base model.
    """

    id: StageId
    needs: tuple[StageId, ...] = ()
    player: Model | None = None
    arms: tuple[str, ...] = ()
    dataset: Dataset | None = None
    own_arms: tuple[str, ...] = ()
    start: str = ""
    adapter: StageId | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """The models that a round starts with, and where its controls come from.

    A control never meets a hint, in no round: where the loop continued from a promoted student, the control continues
    from its own student of that round.

    Attributes:
        start: the base model, or the student promoted last.
        controls: the controls' models, by the name of the student; one that is not here is the base model.
        own_arms: the arm of each earlier round in which the control that learns without hints played.
    """

    start: Model = BASE
    controls: Mapping[str, Model] = field(default_factory=dict)
    own_arms: tuple[str, ...] = ()

    def find_own_arm(self, spec: Spec) -> str:
        """Return the arm of the play without hints that students learn from: the starting model's, or a control's."""
        strategies = Strategies.of(spec)
        is_candidate = strategies.learner_of(ON_POLICY) == strategies.candidate
        return ON_POLICY if is_candidate or self.start == BASE else CONTROL

    def player_of(self, arm: str, spec: Spec) -> Model:
        """Return the model that plays an arm which none of the round's students plays."""
        strategies = Strategies.of(spec)
        play = strategies.play_of(arm)
        role = play.player if play else PlayerRole.START
        if role is PlayerRole.TEACHER and spec.models.teacher is not None:
            return Model("teacher")
        match role:
            case PlayerRole.BASE:
                return BASE
            case PlayerRole.START:
                return self.start
            case PlayerRole.LEARNER | PlayerRole.TEACHER:
                learner = strategies.learner_of(ON_POLICY if arm == CONTROL else arm)
                # a play that no student learns from is one of the loop's own
                is_candidate = learner in (None, strategies.candidate)
                return self.start if is_candidate else self.controls.get(learner, BASE)

    def find_adapter(self, student: str, spec: Spec) -> StageId | None:
        """Return the stage whose adapter the training of a student continues from; None for the base model."""
        if spec.training.start == "base":
            return None
        is_candidate = student == spec.promotion.gate.candidate
        return (self.start if is_candidate else self.controls.get(student, BASE)).trained_by

    def after(self, spec: Spec, number: int, promotion: Promotion) -> Lineage:
        """Return the lineage of the next round, after a round that ended with this promotion."""
        own_arms = (*self.own_arms, self.find_own_arm(spec))
        if not promotion.promoted:
            return replace(self, own_arms=own_arms)
        candidate = spec.promotion.gate.candidate
        trained = {name: student_model(number, name) for name in promotion.students if name != candidate}
        return Lineage(student_model(number, candidate), {**self.controls, **trained}, own_arms)


def student_model(round: int, student: str) -> Model:
    """Return a student of a round as a player."""
    return Model("student", StageId(round, Kind.TRAIN, student))


PREPARE = StageId(0, Kind.PREPARE)


def artifact_of(stage: StageId, held_out_tasks: int) -> str:
    """Return the name of a stage's artifact, with the number of held-out tasks if its content depends on it."""
    reads = stage.kind in (Kind.PREPARE, Kind.EVALUATE, Kind.JUDGE, Kind.PROMOTE)
    return f"{stage}-{held_out_tasks}" if reads else str(stage)


def prepare() -> Stage:
    """Return the stage that runs once: it checks the configuration, pins the tasks and generates games."""
    return Stage(PREPARE)


def round_stages(spec: Spec, number: int, lineage: Lineage) -> list[Stage]:
    """Return the stages of a round, in an order in which each comes after what it needs.

    Stages with the same player stand together as far as the graph allows, so that one server serves them in turn.

    Args:
        spec: what the user wants.
        number: the round, from 1.
        lineage: the models that the round starts with.
    """

    def sid(kind: Kind, variant: str = "") -> StageId:
        """Return the name of a stage of this round."""
        return StageId(number, kind, variant)

    strategies = Strategies.of(spec)
    students, learned_from = strategies.evaluated_students, strategies.learning_arms
    own_arms = (*lineage.own_arms, lineage.find_own_arm(spec))

    # the first round's tasks are chosen with the held-out ones
    sample = [Stage(sid(Kind.SAMPLE), (PREPARE,), start=lineage.start.name)] if number > 1 else []
    tasks = (PREPARE, *(stage.id for stage in sample))
    rollout = Stage(sid(Kind.ROLLOUT), tasks, lineage.start, (ON_POLICY,), own_arms=own_arms)
    hints = Stage(sid(Kind.HINTS), (*tasks, rollout.id))
    stages = [*sample, rollout, hints]

    plays = {ON_POLICY: rollout.id}
    if ON_POLICY in learned_from and own_arms[-1] == CONTROL:
        player = lineage.player_of(CONTROL, spec)
        control = Stage(sid(Kind.ROLLOUT, "sft"), tasks, player, (CONTROL,), own_arms=own_arms)
        plays[ON_POLICY] = control.id
        stages.append(control)
    for arm in learned_from:
        if arm != ON_POLICY:
            variant = {TEACHER: "", PLACEBO_TEACHER: "placebo"}.get(arm, arm)
            stage = Stage(sid(Kind.TEACH, variant), (*tasks, hints.id), lineage.player_of(arm, spec), (arm,))
            plays[arm] = stage.id
            stages.append(stage)

    untrained = _evaluate_untrained(spec, sid, lineage, needs=(PREPARE, hints.id))
    stages.extend(untrained)

    for student in students:
        dataset = strategies.students[student]
        learned = strategies.matched_arms if dataset.matched else (dataset.arm,)
        # whether an episode recites a hint is read from the hints that the teacher was given
        needs = tuple(dict.fromkeys(plays[arm] for arm in (*learned, TEACHER) if arm in plays))
        # the baseline has opened the held-out tasks: nothing is learned from what begins likewise
        needs = (PREPARE, *needs, untrained[0].id)
        adapter = lineage.find_adapter(student, spec)
        stages.append(Stage(sid(Kind.TRAIN, student), needs, dataset=dataset, own_arms=own_arms, adapter=adapter))
    judged = [stage.id for stage in untrained]
    for student in students:
        trained = sid(Kind.TRAIN, student)
        played = tuple(arm for arm in strategies.arms if strategies.student_of(arm) == student)
        evaluate = Stage(sid(Kind.EVALUATE, student), (PREPARE, hints.id, trained), Model("student", trained), played)
        judged.append(evaluate.id)
        stages.append(evaluate)

    candidate = student_model(number, spec.promotion.gate.candidate)
    needs = (PREPARE, *judged, sid(Kind.TRAIN, spec.promotion.gate.candidate))
    if spec.environment.tasks.confirm:
        confirming = _confirm(sid, needs, lineage.start, candidate)
        needs = (*needs, *(stage.id for stage in confirming))
        stages.extend(confirming)
    stages.append(Stage(sid(Kind.PROMOTE), needs, start=lineage.start.name))
    return stages


def _confirm(
    sid: Callable[[Kind, str], StageId], needs: tuple[StageId, ...], baseline: Model, candidate: Model
) -> list[Stage]:
    """Return the stages that look at the candidate once more, on held-out tasks that no gate has seen."""
    judge = sid(Kind.JUDGE, "")
    plays = ((CONFIRM_BASELINE, baseline), (CONFIRM_CANDIDATE, candidate))
    return [
        Stage(judge, needs),
        *(Stage(sid(Kind.EVALUATE, arm), (PREPARE, judge), player, (arm,)) for arm, player in plays),
    ]


def _evaluate_untrained(
    spec: Spec, sid: Callable[[Kind, str], StageId], lineage: Lineage, *, needs: tuple[StageId, ...]
) -> list[Stage]:
    """Return the stages in which models that the round did not train play, that of the starting model first.

    While the round starts with the base model, its arms are played with the baseline, which is the same model.
    """
    strategies, evaluate = Strategies.of(spec), sid(Kind.EVALUATE, BASELINE)
    own_teacher = (PlayerRole.TEACHER,) if spec.models.teacher else ()
    of_loop = {PlayerRole.START, PlayerRole.LEARNER, PlayerRole.TEACHER}.difference(own_teacher)
    of_teacher = strategies.arms_played_by(*own_teacher)
    taught = [Stage(sid(Kind.EVALUATE, TEACHER), needs, Model("teacher"), of_teacher)] if of_teacher else []
    if lineage.start == BASE:
        played = [arm for arm in strategies.arms_played_by(PlayerRole.BASE, *of_loop) if arm != BASE_ARM]
        return [Stage(evaluate, needs, BASE, tuple(played)), *taught]
    of_base = tuple(arm for arm in strategies.arms_played_by(PlayerRole.BASE) if arm != BASE_ARM)
    return [
        Stage(evaluate, needs, lineage.start, strategies.arms_played_by(*of_loop)),
        Stage(sid(Kind.EVALUATE, BASE_ARM), needs, BASE, (BASE_ARM, *of_base)),
        *taught,
    ]
