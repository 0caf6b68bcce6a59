"""The records of stages, as the status keeps them and as Jobs and pods show them. Pure.

A stage that ended is recorded, and its Job is not read again. Jobs of earlier attempts, and Jobs that do what the run
no longer learns, are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from distillery.core.api import Spec
from distillery.core.contracts.stage_result import read
from distillery.core.planner import Kind, Lineage, StageId, StageResult, StageState
from distillery.core.planner import StagePhase as PlannerPhase
from distillery.core.planner.graph import PREPARE, round_stages
from distillery_operator.manifests import jobs
from distillery_operator.model.names import FETCH_CONTAINER, WORKER_CONTAINER, RunRef
from distillery_operator.model.objects import Manifest, rfc3339
from distillery_operator.model.observed import Observed, job_condition, stage_of
from distillery_operator.model.phases import StagePhase
from distillery_operator.model.rounds import RoundRecord, read_rounds

_WATCH_LAG = timedelta(minutes=2)
"""The longest lag of a watch: within that time the operator lists all objects of an active run twice."""

_MAX_ATTEMPTS = 2
"""The limit on attempts at a stage whose result was lost. Its Job retries a stage that failed."""

_ENDED_PODS = ("Succeeded", "Failed")


class FailureReason(StrEnum):
    """The reason why a stage failed, for the code that decides what follows."""

    REPORTED = "Reported"
    """A worker, or the init container that fetches the model, reported the failure."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The stage took longer than its timeout."""
    JOB_FAILED = "JobFailed"
    """The Job failed, and no container reported why."""
    RESULT_LOST = "ResultLost"
    """The Job is complete, and no pod is left to report the result."""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A record of ``status.stages``.

    Attributes:
        name: the stage.
        phase: of the stage.
        attempts: the number of the attempt, from 1.
        job: the name of the attempt's Job; empty before there is one.
        start_time: when the Job was created.
        completion_time: when the stage ended.
        message: why the stage failed.
        result: the part of the result that later stages depend on.
        reason: why the stage failed; None unless this look showed it. The status does not keep it.
    """

    name: str
    phase: StagePhase = StagePhase.PENDING
    attempts: int = 1
    job: str = ""
    start_time: str = ""
    completion_time: str = ""
    message: str = ""
    result: StageResult | None = None
    reason: FailureReason | None = field(default=None, compare=False)

    @classmethod
    def from_status(cls, record: Mapping[str, Any]) -> Self:
        """Read a record of ``status.stages``."""
        return cls(
            record["name"],
            StagePhase(record["phase"]),
            record.get("attempts", 1),
            record.get("job", ""),
            record.get("startTime", ""),
            record.get("completionTime", ""),
            record.get("message", ""),
            StageResult.read(record["result"]) if "result" in record else None,
        )

    def to_status(self) -> dict[str, Any]:
        """Write a record of ``status.stages``."""
        record: dict[str, Any] = {"name": self.name, "phase": str(self.phase), "attempts": self.attempts}
        optional = {
            "job": self.job,
            "startTime": self.start_time,
            "completionTime": self.completion_time,
            "message": self.message,
        }
        record |= {key: value for key, value in optional.items() if value}
        return record if self.result is None else record | {"result": dict(self.result.document)}

    @property
    def id(self) -> StageId:
        """The stage."""
        return StageId.parse(self.name)

    @property
    def has_ended(self) -> bool:
        """True if the stage succeeded or failed."""
        return self.phase in (StagePhase.SUCCEEDED, StagePhase.FAILED)

    @property
    def state(self) -> StageState:
        """The state of a stage that was started, for the planner. A failure is final, because the Job has retried."""
        match self.phase:
            case StagePhase.SUCCEEDED:
                return StageState(PlannerPhase.SUCCEEDED, self.attempts, result=self.result or StageResult())
            case StagePhase.FAILED:
                return StageState(PlannerPhase.FAILED, self.attempts, permanent=True, message=self.message)
            case _:
                return StageState(PlannerPhase.RUNNING, self.attempts)

    def next_attempt(self) -> StageRecord:
        """Return the record of the next attempt, which has not started."""
        return StageRecord(self.name, attempts=self.attempts + 1)


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a run.

    Attributes:
        records: of the stages of the round in progress, for the status.
        states: of the stages that were started, for the planner; also those of rounds that ended.
    """

    records: Mapping[StageId, StageRecord] = field(default_factory=dict)
    states: Mapping[StageId, StageState] = field(default_factory=dict)

    def start_again(self, stages: Iterable[StageId]) -> Self:
        """Return the stages with some of them at their next attempts."""
        again = set(stages)
        records = {sid: record.next_attempt() if sid in again else record for sid, record in self.records.items()}
        states = {sid: state for sid, state in self.states.items() if sid not in again}
        return replace(self, records=records, states=states)

    @property
    def failed(self) -> list[StageId]:
        """The stages that failed."""
        return [sid for sid, record in self.records.items() if record.phase is StagePhase.FAILED]


def recorded_stages(spec: Spec, status: Mapping[str, Any]) -> Stages:
    """Return the stages as the status records them.

    Of rounds that ended the status keeps only the verdict; all their stages succeeded.
    """
    records = {record.id: record for record in map(StageRecord.from_status, status.get("stages", []))}
    ended = {sid: record.state for sid, record in records.items() if record.has_ended}
    return Stages(records, _stages_of_ended_rounds(spec, read_rounds(status).values()) | ended)


def observe_stages(run: RunRef, status: Mapping[str, Any], observed: Observed, now: datetime) -> Stages:
    """Return the stages as the status records them, and the others as their Jobs show them.

    Args:
        run: the run. Records and Jobs of what it no longer learns are left out: those stages run again.
        status: its status as the controller wrote it last.
        observed: its objects.
        now: the time, with its zone.
    """
    current = [record for record in status.get("stages", []) if run.identity.wrote(record.get("result"))]
    recorded = recorded_stages(run.run.spec, {**status, "stages": current})
    records, states = dict(recorded.records), dict(recorded.states)
    for job in observed.jobs.values():
        if _is_helper(job) or job["metadata"].get("deletionTimestamp") or jobs.is_superseded(run, job):
            continue
        sid = StageId.parse(stage_of(job))
        record = records.get(sid, StageRecord(str(sid)))
        attempt_job = record.job or jobs.job_name(run, sid, record.attempts)
        if sid in states or attempt_job != job["metadata"]["name"]:
            continue
        record = observe_stage(job, observed.pods_of(attempt_job), record, now)
        if record.reason is FailureReason.RESULT_LOST and record.attempts < _MAX_ATTEMPTS:
            # the store and the database have all that it did: another attempt only reports it again
            before = records.get(sid, StageRecord(str(sid)))
            records[sid] = replace(before, phase=StagePhase.RUNNING, attempts=before.attempts + 1, job="")
            continue
        records[sid], states[sid] = record, record.state
    return Stages(records, states)


def observe_stage(job: Manifest, pods: Sequence[Manifest], record: StageRecord, now: datetime) -> StageRecord:
    """Return the record of a stage as its Job and the Job's pods show it.

    Jobs and pods are watched apart. So the pods may be older than the end of their Job; the stage is then still
    running.

    Args:
        job: the Job of the record's attempt.
        pods: of the Job, as they were observed.
        record: of the stage so far.
        now: the time, with its zone.
    """
    started = replace(
        record,
        phase=StagePhase.RUNNING,
        job=job["metadata"]["name"],
        start_time=record.start_time or job["metadata"].get("creationTimestamp") or rfc3339(now),
    )
    complete, failed = job_condition(job, "Complete"), job_condition(job, "Failed")
    if not (complete or failed):
        return started
    reported = worker_result(pods, attempt=record.attempts)
    succeeded = reported is not None and _has_succeeded(reported)
    if complete and not succeeded and _may_report_later(complete, pods, now):
        return started
    ended = replace(
        started,
        completion_time=record.completion_time or job.get("status", {}).get("completionTime") or rfc3339(now),
    )
    if reported is not None and succeeded:  # one is enough: a worker succeeds once nothing of the stage is left to do
        return replace(ended, phase=StagePhase.SUCCEEDED, result=reported.result)
    reason, message = _find_failure(record.id, None if complete else failed, pods, reported)
    return replace(ended, phase=StagePhase.FAILED, reason=reason, message=message or record.message)


def worker_result(pods: Iterable[Manifest], *, attempt: int) -> StageState | None:
    """Return the end of a stage as its workers report it: the first success, else the last failure."""
    failure = None
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
            if status["name"] == WORKER_CONTAINER and ended:
                state = read(ended.get("message", ""), attempt=attempt)
                if state and _has_succeeded(state):
                    return state
                failure = state or failure
    return failure


def _has_succeeded(state: StageState) -> bool:
    """Return whether a stage succeeded, as the planner reads its state."""
    return StagePhase(state.phase.capitalize()) is StagePhase.SUCCEEDED


def _may_report_later(complete: Mapping[str, Any], pods: Sequence[Manifest], now: datetime) -> bool:
    """Return whether a watch may still show a pod that reports the result of a complete Job."""
    if any(pod.get("status", {}).get("phase") not in _ENDED_PODS for pod in pods):
        return True
    ended = complete.get("lastTransitionTime")
    return not pods and bool(ended) and now - datetime.fromisoformat(ended) < _WATCH_LAG


def _find_failure(
    stage: StageId, failed: Mapping[str, Any] | None, pods: Iterable[Manifest], reported: StageState | None
) -> tuple[FailureReason, str]:
    """Return why a stage failed: a reason for the code, and a message for the user."""
    if failed is None:
        return FailureReason.RESULT_LOST, "its Job is complete, and no pod is left to report the result"
    if failed.get("reason") == "DeadlineExceeded":
        return FailureReason.DEADLINE_EXCEEDED, f"took longer than spec.stages.{stage.kind}.timeoutSeconds"
    if reported:
        return FailureReason.REPORTED, reported.message
    if message := _fetch_failure(pods):
        return FailureReason.REPORTED, message
    return FailureReason.JOB_FAILED, failed.get("message", "")


def _fetch_failure(pods: Iterable[Manifest]) -> str:
    """Return why a model could not be fetched, where no worker started; else the empty string."""
    for pod in pods:
        for status in pod.get("status", {}).get("initContainerStatuses", []):
            ended: Mapping[str, Any] = status.get("state", {}).get("terminated") or {}
            if status["name"] == FETCH_CONTAINER and ended.get("exitCode"):
                return str(ended.get("message", "")).strip()
    return ""


def _is_helper(job: Manifest) -> bool:
    return stage_of(job) in (jobs.MIGRATE, jobs.HISTORY)


def _stages_of_ended_rounds(spec: Spec, rounds: Iterable[RoundRecord]) -> dict[StageId, StageState]:
    states: dict[StageId, StageState] = {}
    lineage = Lineage()
    for ended in rounds:
        for stage in round_stages(spec, ended.round, lineage):
            student = ended.promotion.students.get(stage.id.variant) if stage.id.kind is Kind.TRAIN else None
            states[stage.id] = StageState(PlannerPhase.SUCCEEDED, result=StageResult(student=student))
        # a record of an older release names the candidate's student alone
        trained = StageResult(student=ended.student)
        train = StageId(ended.round, Kind.TRAIN, ended.promotion.candidate)
        states[train] = StageState(PlannerPhase.SUCCEEDED, result=trained)
        began = StageResult(start=ended.promotion.start or None)
        if (sample := StageId(ended.round, Kind.SAMPLE)) in states:
            states[sample] = StageState(PlannerPhase.SUCCEEDED, result=began)
        judged = replace(trained, promotion=ended.promotion)
        states[StageId(ended.round, Kind.PROMOTE)] = StageState(PlannerPhase.SUCCEEDED, result=judged)
        lineage = lineage.after(spec, ended.round, ended.promotion)
    if states:
        states[PREPARE] = StageState(PlannerPhase.SUCCEEDED)
    return states
