"""Projections: each returns a part of the controller's status of a run. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from distillery.core.planner import Plan, Promotion, StageId
from distillery.core.planner.plays import BASELINE
from distillery_operator.crd.status_schema import MAX_HISTORY, MAX_OF_STAGE
from distillery_operator.decide.canary.plan import CanaryPlan
from distillery_operator.decide.canary.pods import RolloutStatus
from distillery_operator.decide.canary.state import CanaryStatus
from distillery_operator.decide.canary.target import ServingTarget
from distillery_operator.decide.requests import Requests
from distillery_operator.decide.stage_records import StageRecord
from distillery_operator.manifests import servers
from distillery_operator.manifests.gateway import SERVING
from distillery_operator.model import conditions as kinds
from distillery_operator.model import reasons
from distillery_operator.model.conditions import Conditions, ConditionStatus
from distillery_operator.model.names import RunRef
from distillery_operator.model.phases import ENDED, RunPhase
from distillery_operator.model.rounds import RoundRecord, read_rounds

_MAX_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class ServingState:
    """The serving of a run.

    Attributes:
        run: the run, with the replicas in effect.
        plan: the stable student, and the canary.
        rollout: the progress of the servers.
        missing: why another student is served than the user pinned; empty if it is that one.
        paused: the servers make room for a round.
    """

    run: RunRef
    plan: CanaryPlan
    rollout: RolloutStatus
    missing: str = ""
    paused: bool = False


def requests_status(status: Mapping[str, Any], requests: Requests) -> dict[str, Any]:
    """Return the status with the answers to requests by annotation."""
    fields = {key: value for key, value in status.items() if key != "requests"}
    return fields | ({"requests": [answer.to_status() for answer in requests.answers]} if requests.answers else {})


def set_request_accepted(conditions: Conditions, requests: Requests) -> Conditions:
    """Return the conditions with RequestAccepted, if there is or was a request."""
    if condition := requests.condition():
        return conditions.set(kinds.REQUEST_ACCEPTED, *condition)
    if conditions.find(kinds.REQUEST_ACCEPTED) is None:
        return conditions
    message = "No request is in effect."
    return conditions.set(kinds.REQUEST_ACCEPTED, True, reasons.RequestAccepted.ACCEPTED, message)


def rounds_status(
    rounds: Mapping[int, RoundRecord], plan: Plan, now: str, *, rejected: Collection[int] = ()
) -> dict[str, Any]:
    """Return the rounds that ended, and the scores of the last one.

    Args:
        rounds: as the status has them.
        plan: the planner's plan, with all verdicts.
        now: the time.
        rejected: the rounds whose students live traffic rejected.
    """
    records, scores = dict(rounds), dict[str, Any]()
    for verdict in plan.verdicts:
        if verdict.round not in records:
            records[verdict.round] = RoundRecord(verdict.round, verdict.student, verdict.promotion, now)
            scores = {"scores": _scores(verdict.promotion)}
    marked = [replace(records[number], rejected=number in rejected) for number in sorted(records)]
    return {"rounds": [record.to_status() for record in marked], **scores}


def find_rejected_rounds(status: Mapping[str, Any]) -> set[int]:
    """Return the rounds whose students live traffic rejected, but for one that is served after all."""
    rejected = {number for number, record in read_rounds(status).items() if record.rejected}
    canary = CanaryStatus.read(status)
    if canary and canary.rejected:
        rejected.add(canary.round)
    return rejected - {status.get("serving", {}).get("round")}


def set_promoted(conditions: Conditions, rounds: Mapping[int, RoundRecord], plan: Plan) -> Conditions:
    """Return the conditions with Promoted for each verdict that the rounds of a status do not have."""
    for verdict in plan.verdicts:
        if verdict.round not in rounds:
            promotion = verdict.promotion
            reason = reasons.Promoted.PROMOTED if promotion.promoted else reasons.Promoted.NOT_PROMOTED
            message = f"Round {verdict.round}: {promotion.reason}"
            conditions = conditions.set(kinds.PROMOTED, promotion.promoted, reason, message)
    return conditions


def _scores(promotion: Promotion) -> dict[str, str]:
    return {
        column: f"{100 * promotion.arms[arm].success:.1f}"
        for column, arm in (("baseline", BASELINE), ("candidate", promotion.candidate))
        if arm in promotion.arms
    }


def stages_status(records: Mapping[StageId, StageRecord], plan: Plan, max_rounds: int) -> dict[str, Any]:
    """Return the stages of the last round that started, and the columns made of the plan."""
    last = max((sid.round for sid in records), default=0)
    return {
        "stages": [records[sid].to_status() for sid in sorted(records, key=str) if sid.round in (0, last)],
        "round": plan.round,
        "roundProgress": f"{plan.round}/{max_rounds}",
        "stage": _join_stages(str(sid) for sid in plan.running),
    }


def started_status(status: Mapping[str, Any], records: Iterable[StageRecord]) -> dict[str, Any]:
    """Return the stages with some that start now. A round that ended stays until the next one starts."""
    stages, column = list[Mapping[str, Any]](status.get("stages", [])), status.get("stage", "")
    for record in records:
        others = [
            other
            for other in stages
            if other["name"] != record.name and not 0 < StageId.parse(other["name"]).round < record.id.round
        ]
        stages = sorted([*others, record.to_status()], key=lambda other: other["name"])
        column = _join_stages(filter(None, (column, record.name)))
    return {"stages": stages, "stage": column}


def _join_stages(stages: Iterable[str]) -> str:
    """Return the names of stages, as many as the column holds: nine evaluations at the same time can be too many."""
    joined = ",".join(stages)
    if len(joined) <= MAX_OF_STAGE:
        return joined
    return joined[: MAX_OF_STAGE - 3].rpartition(",")[0] + ",..."


def serving_status(serving: ServingState, before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return ``status.serving``: what is served, by how many replicas, and the canary.

    Args:
        serving: what is served.
        before: the same part as it was.
        now: the time.
    """
    run, plan, rollout = serving.run, serving.plan, serving.rollout
    fields: dict[str, Any] = {
        "student": plan.stable.student,
        "round": plan.stable.round,
        "url": servers.url(run),
        "model": run.name,
        "replicas": rollout.pods,
        "readyReplicas": rollout.replicas,
        "selector": ",".join(f"{key}={value}" for key, value in run.selector(SERVING.component).items()),
        "history": append_history(before.get("history", []), plan.stable, now, rolled_back=plan.rolled_back),
    }
    return canary_status(fields, plan)


def append_history(
    history: Iterable[Mapping[str, Any]], target: ServingTarget, now: str, *, rolled_back: str = ""
) -> list[dict[str, Any]]:
    """Return the history of what was served, the newest first, with the present student in front.

    Args:
        history: so far.
        target: the student that is served.
        now: the time.
        rolled_back: why a canary was just rolled back, which is worth another entry.
    """
    entries = [dict(entry) for entry in history]
    if entries and not rolled_back and (entries[0]["student"], entries[0]["round"]) == (target.student, target.round):
        return entries
    reason = (rolled_back or target.reason)[:1024]
    entry = {"student": target.student, "round": target.round, "reason": reason, "time": now}
    return [entry, *entries][:MAX_HISTORY]


def canary_status(serving: Mapping[str, Any], plan: CanaryPlan) -> dict[str, Any]:
    """Return ``status.serving`` with the canary of a plan in place of another."""
    fields = {key: value for key, value in serving.items() if key != "canary"}
    return fields | ({"canary": plan.status.to_status()} if plan.status else {})


def set_canary_progressing(conditions: Conditions, plan: CanaryPlan) -> Conditions:
    """Return the conditions with CanaryProgressing, if it changed."""
    if (update := plan.condition) is None:
        return conditions
    return conditions.set(kinds.CANARY_PROGRESSING, update.holds, update.reason, update.message)


def serving_condition(serving: ServingState) -> tuple[bool, reasons.Serving, str]:
    """Return the condition Serving: its status, reason and message."""
    stable, rollout, replicas = serving.plan.stable, serving.rollout, serving.run.run.spec.serving.replicas
    if serving.missing:
        return False, reasons.Serving.STUDENT_NOT_FOUND, serving.missing
    if serving.paused:
        message = "Nothing is served while a round is running: spec.serving.duringRounds is Pause."
        return False, reasons.Serving.PAUSED, message
    if replicas == 0:
        message = "Nothing is served while there are no replicas: spec.serving.replicas is 0."
        return False, reasons.Serving.NO_REPLICAS, message
    # from step to step pods take other shares over one by one, and the stable student answers all the while
    if rollout.available if serving.plan.canary else rollout.complete:
        message = f"{stable.display_name[0].upper()}{stable.display_name[1:]} answers at {servers.url(serving.run)}."
        return True, reasons.Serving.AVAILABLE, message
    message = f"{rollout.replicas} of {replicas} servers of {stable.display_name} are ready."
    if rollout.problem:
        message += f" One says: {rollout.problem}"
    return False, reasons.Serving.ROLLING_OUT, message


def readiness(phase: str, message: str, conditions: Conditions) -> tuple[bool, str, str]:
    """Return the condition Ready, as kstatus, Flux and Argo CD read it: its status, reason and message.

    A student that is served is what a run offers. So Ready follows Serving as soon as there is one, whatever a later
    round does. Before that, and without one, a run is ready when it is complete. A run without replicas counts as one
    that serves nothing.

    Args:
        phase: of the run.
        message: of the run.
        conditions: the other conditions of the run.
    """
    accepted, serving = conditions.find(kinds.ACCEPTED), conditions.find(kinds.SERVING)
    if accepted and accepted["status"] == ConditionStatus.FALSE:
        return False, accepted["reason"], accepted["message"]
    if failed := conditions.find_true(kinds.FAILED):
        return False, failed["reason"], failed["message"]
    if serving and serving["reason"] != reasons.Serving.NO_REPLICAS:
        return serving["status"] == ConditionStatus.TRUE, serving["reason"], serving["message"]
    if phase == RunPhase.COMPLETE:
        return True, reasons.Ready.COMPLETE, message
    reason = reasons.Ready.SUSPENDED if phase == RunPhase.SUSPENDED else reasons.Ready.PROGRESSING
    return False, reason, message


def finish(status: Mapping[str, Any], conditions: Conditions, phase: str, message: str) -> dict[str, Any]:
    """Return the whole status.

    Args:
        status: all other fields.
        conditions: all but Ready.
        phase: of the run.
        message: one sentence for a person.
    """
    ready = conditions.set(kinds.READY, *readiness(phase, message, conditions))
    fields: dict[str, Any] = {
        "startTime": conditions.now,
        **status,
        "observedGeneration": conditions.generation,
        "conditions": ready.to_status(),
        "phase": str(phase),
        "message": message[:_MAX_MESSAGE],
    }
    if phase in ENDED:
        fields = {"completionTime": conditions.now, **fields, "stage": ""}
    return fields
