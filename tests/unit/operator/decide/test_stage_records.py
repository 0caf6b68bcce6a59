"""The records of stages, by their Jobs and pods: one look at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from distillery.core.planner import StageId, StageResult
from distillery_operator.decide.stage_records import FailureReason, StageRecord, Stages, observe_stage
from distillery_operator.model.objects import Manifest, rfc3339
from distillery_operator.model.phases import StagePhase

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
CREATED, ENDED = "2026-11-25T11:00:00Z", "2026-11-25T11:30:00Z"
RECORD = StageRecord("r1-rollout")
SUCCESS = {"result": {"student": "abc"}}
FAILURE = {"message": "no such model", "permanent": True}


def job(condition: str = "", reason: str = "", *, since: str = CREATED, ended: str = "") -> Manifest:
    conditions = [{"type": condition, "status": "True", "reason": reason, "lastTransitionTime": since}]
    return {
        "metadata": {"name": "j", "creationTimestamp": CREATED},
        "status": {"conditions": conditions if condition else [], **({"completionTime": ended} if ended else {})},
    }


def pod(report: dict[str, Any] | None, *, phase: str = "Succeeded") -> Manifest:
    ended = {"terminated": {"message": json.dumps(report) if report else ""}}
    return {"status": {"phase": phase, "containerStatuses": [{"name": "worker", "state": ended}]}}


def test_stage_runs_when_its_job_has_not_ended():
    record = observe_stage(job(), [], RECORD, NOW)
    assert record == replace(RECORD, phase=StagePhase.RUNNING, job="j", start_time=CREATED)


def test_start_time_stays_when_it_is_recorded():
    record = observe_stage(job(), [], replace(RECORD, start_time=ENDED), NOW)
    assert record.start_time == ENDED


@pytest.mark.parametrize("condition", ["Complete", "Failed"])
def test_stage_succeeds_when_one_worker_reports_a_result(condition: str):
    record = observe_stage(job(condition), [pod(FAILURE), pod(SUCCESS)], RECORD, NOW)
    assert (record.phase, record.result, record.reason) == (
        StagePhase.SUCCEEDED,
        StageResult.read(SUCCESS["result"]),
        None,
    )


@pytest.mark.parametrize(
    ("recorded", "of_job", "expected"),
    [("", "", rfc3339(NOW)), ("", ENDED, ENDED), (CREATED, ENDED, CREATED)],
)
def test_completion_time_is_the_first_that_is_known(recorded: str, of_job: str, expected: str):
    before = replace(RECORD, completion_time=recorded)
    record = observe_stage(job("Complete", ended=of_job), [pod(SUCCESS)], before, NOW)
    assert record.completion_time == expected


def test_completion_time_is_empty_while_the_stage_runs():
    assert not observe_stage(job(ended=ENDED), [], RECORD, NOW).completion_time


@pytest.mark.parametrize(
    ("reason", "report", "expected"),
    [
        ("BackoffLimitExceeded", FAILURE, FailureReason.REPORTED),
        ("BackoffLimitExceeded", None, FailureReason.JOB_FAILED),
        ("DeadlineExceeded", FAILURE, FailureReason.DEADLINE_EXCEEDED),
    ],
)
def test_failed_stage_has_a_reason(reason: str, report: dict[str, Any] | None, expected: FailureReason):
    record = observe_stage(job("Failed", reason), [pod(report, phase="Failed")], RECORD, NOW)
    assert (record.phase, record.reason) == (StagePhase.FAILED, expected)


@pytest.mark.parametrize("report", [None, FAILURE])
def test_result_is_lost_when_all_pods_ended_without_one(report: dict[str, Any] | None):
    record = observe_stage(job("Complete"), [pod(report)], RECORD, NOW)
    assert record.reason is FailureReason.RESULT_LOST


@pytest.mark.parametrize(("phase", "running"), [("Running", True), ("Pending", True), ("Failed", False)])
def test_stage_still_runs_when_a_pod_of_its_complete_job_does(phase: str, running: bool):
    record = observe_stage(job("Complete"), [pod(SUCCESS), pod(None, phase=phase)], RECORD, NOW)
    assert record.phase is StagePhase.SUCCEEDED, "a result is enough"
    record = observe_stage(job("Complete"), [pod(None, phase=phase)], RECORD, NOW)
    assert (record.phase is StagePhase.RUNNING) == running


@pytest.mark.parametrize(("seconds", "lost"), [(119, False), (120, True)])
def test_result_is_lost_when_no_pod_appears_within_the_lag(seconds: int, lost: bool):
    complete = job("Complete", since=rfc3339(NOW - timedelta(seconds=seconds)))
    record = observe_stage(complete, [], RECORD, NOW)
    assert (record.reason is FailureReason.RESULT_LOST) == lost


@pytest.mark.parametrize(
    "record",
    [
        {"name": "r1-rollout", "phase": "Pending", "attempts": 2},
        {"name": "r1-rollout", "phase": "Running", "attempts": 1, "job": "j", "startTime": CREATED},
        {
            "name": "r1-rollout", "phase": "Failed", "attempts": 1, "job": "j", "startTime": CREATED,
            "completionTime": ENDED, "message": "Why.",
        },
        {"name": "prepare", "phase": "Succeeded", "attempts": 1, "job": "j", "result": {}},
    ],
)  # fmt: skip
def test_record_is_the_same_when_it_is_read_and_written(record: dict[str, Any]):
    assert StageRecord.from_status(record).to_status() == record


def test_next_attempt_keeps_nothing_but_the_number():
    sid = StageId.parse("r1-rollout")
    failed = replace(RECORD, phase=StagePhase.FAILED, job="j", message="Why.", completion_time=ENDED)
    stages = Stages({sid: failed}, {sid: failed.state}).start_again([sid])
    assert stages.records == {sid: StageRecord("r1-rollout", attempts=2)}
    assert not stages.states
