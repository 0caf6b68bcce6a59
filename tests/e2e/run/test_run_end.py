"""The end of the shared run: nothing of what died on the way was lost, counted twice or left over."""

from __future__ import annotations

import json
import re

from tests.e2e.run.test_loop import STAGES, ask, assert_nothing_was_lost
from tests.e2e.support.cluster import Namespace
from tests.e2e.support.serving import EVALUATE, NAME, TRAIN


def test_run_completes_as_undisturbed_when_processes_died(adapters: Namespace):
    assert_nothing_was_lost(adapters, NAME, train=TRAIN, evaluate=EVALUATE)
    status = adapters.status(NAME)
    assert status["phase"] == "Waiting"
    assert adapters.condition(NAME, "Ready")["status"] == "True"
    jobs = [job for stage in STAGES for job in adapters.list("jobs", f"distillery.dev/stage={stage}")]
    assert {job["status"].get("succeeded") for job in jobs} == {1}
    stages = [job["metadata"]["labels"]["distillery.dev/stage"] for job in jobs]
    # one attempt at each; a worker that is killed as it ends takes its result along, and its stage is looked at again
    assert stages in (STAGES, sorted([*STAGES, "r1-rollout"], key=STAGES.index))
    assert re.fullmatch(r"\d+\.\d", status["scores"]["baseline"])


def test_student_answers_the_openai_client(adapters: Namespace):
    assert adapters.status(NAME)["serving"]["url"] == f"http://{NAME}.{adapters.name}.svc:8000/v1"
    assert re.match(r"book (no|\d)", ask(adapters, NAME))


def test_each_stage_has_one_event_and_no_log_holds_a_secret(adapters: Namespace):
    events = adapters.kubectl("get", "events", f"--field-selector=involvedObject.name={NAME}", "--output=json")
    reasons = [event["reason"] for event in json.loads(events)["items"]]
    assert reasons.count("StageSucceeded") == len(STAGES)
    logs = [
        adapters.try_kubectl("logs", pod["metadata"]["name"], "--all-containers").stdout
        for pod in adapters.list("pods", "app.kubernetes.io/managed-by=distillery")
    ]
    assert any(f"stage r1-rollout: {TRAIN} of {TRAIN} episodes" in log for log in logs)
    assert not any("postgresql://" in log for log in logs)
