"""The context of a decision, and the changes that a step of it makes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from distillery.core.api import CannotRun, parse
from distillery.core.api.rules import warning_of
from distillery.core.planner import Plan, plan
from distillery.core.planner.plan import find_outgrown
from distillery_operator.decide.allowed import find_forbidden
from distillery_operator.decide.releases import choose_images, with_images
from distillery_operator.decide.requests import Requests, answer
from distillery_operator.decide.retries import (
    find_request,
    learned_digest,
    learned_status,
    reopen,
    resume,
    starts_over,
    was_refused,
)
from distillery_operator.decide.stage_records import Stages, observe_stages, recorded_stages
from distillery_operator.decide.status import (
    find_rejected_rounds,
    finish,
    requests_status,
    rounds_status,
    set_promoted,
    set_request_accepted,
    stages_status,
)
from distillery_operator.model import conditions as kinds
from distillery_operator.model import reasons
from distillery_operator.model.conditions import Conditions
from distillery_operator.model.decision import Decision, sooner
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed
from distillery_operator.model.rounds import read_rounds
from distillery_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """All that the steps of a decision read.

    Attributes:
        run: the run, with requests in effect in place of its fields.
        status: the status so far: as it was, with what was observed and what earlier steps changed.
        conditions: the conditions so far, likewise.
        observed: the run's objects.
        settings: the operator's, with the images of the run.
        now: the time, with its zone.
        requests: the answers to requests by annotation.
        stages: the stages of the run.
        plan: what the planner says about them.
        has_ended: the run was complete or failed before, and nothing restarts it.
        resumes: failed stages start again.
    """

    run: RunRef
    status: Mapping[str, Any]
    conditions: Conditions
    observed: Observed
    settings: Settings
    now: datetime
    requests: Requests
    stages: Stages
    plan: Plan
    has_ended: bool = False
    resumes: bool = False

    def after(self, changes: Changes) -> Context:
        """Return the context of the next step."""
        return replace(self, status={**self.status, **changes.status}, conditions=changes.conditions or self.conditions)


@dataclass(frozen=True, kw_only=True)
class Changes(Decision):
    """The part of a decision that one step adds. ``status`` has only the fields that change.

    Attributes:
        conditions: all conditions, with those that the step sets; None if it sets none.
        phase: of the run; empty if the step does not decide it.
        message: of the run; empty likewise.
    """

    conditions: Conditions | None = None
    phase: str = ""
    message: str = ""


Step = Callable[[Context], Changes]


def carry_out(context: Context, steps: Iterable[Step]) -> Decision:
    """Return the decision that consists of some steps. Each sees the status that the steps before it leave."""
    all_changes: list[Changes] = []
    for step in steps:
        changes = step(context)
        context = context.after(changes)
        all_changes.append(changes)
    phase = next((changes.phase for changes in reversed(all_changes) if changes.phase), "")
    message = next((changes.message for changes in reversed(all_changes) if changes.message), "")
    return Decision(
        secret=any(changes.secret for changes in all_changes),
        apply=tuple(manifest for changes in all_changes for manifest in changes.apply),
        annotate=tuple(pod for changes in all_changes for pod in changes.annotate),
        create=tuple(manifest for changes in all_changes for manifest in changes.create),
        delete=tuple(deletion for changes in all_changes for deletion in changes.delete),
        status=finish(context.status, context.conditions, phase, message),
        requeue=sooner(*(changes.requeue for changes in all_changes)),
    )


def read_context(
    body: Manifest, status: Mapping[str, Any], observed: Observed, settings: Settings, now: datetime
) -> Context:
    """Return the context of a decision.

    Args:
        body: the run as the API server has it.
        status: its status as the controller wrote it last.
        observed: the run's objects.
        settings: the operator's.
        now: the time, with its zone.

    Raises:
        InvalidRun: the spec is invalid, or names something that is not allowed on the cluster.
    """
    run = parse(body)
    if forbidden := find_forbidden(run.spec, settings):
        raise CannotRun(forbidden)
    conditions = Conditions.of(body, status, now)
    message = " ".join(filter(None, ("The resource is valid.", warning_of(run.spec))))
    conditions = conditions.set(kinds.ACCEPTED, True, reasons.Accepted.VALID, message)
    fields, conditions = reopen(run, {key: value for key, value in status.items() if key != "progress"}, conditions)

    complete = conditions.is_true(kinds.COMPLETE)
    requests = answer(body, run, fields, complete=complete, now=now)
    conditions = set_request_accepted(conditions, requests)
    ref = RunRef(requests.applied_to(run), body["metadata"]["uid"], learned_digest(fields))
    fields = requests_status(fields, requests) | choose_images(ref, body, fields, observed, settings)
    settings = with_images(settings, fields["images"])
    spec, request = ref.run.spec, find_request(body, fields)
    restarts = starts_over(ref.run, fields)
    resumes = bool(request) or restarts or was_refused(fields)
    has_ended = complete or (conditions.is_true(kinds.FAILED) and not resumes)
    if has_ended:
        stages = recorded_stages(spec, fields)
        current = plan(spec, stages.states, rejected=find_rejected_rounds(fields))
    else:
        stages = Stages() if restarts else observe_stages(ref, fields, observed, now)
        stages = stages.start_again(find_outgrown(spec, stages.states))
        if resumes:
            stages = stages.start_again(stages.failed)
            fields, conditions = resume(fields, conditions, request)
        rejected = find_rejected_rounds(fields)
        current = plan(spec, stages.states, failures=observed.failures, rejected=rejected)
        fields, conditions = _with_progress(fields, conditions, ref, stages, current)
    return Context(ref, fields, conditions, observed, settings, now, requests, stages, current, has_ended, resumes)


def _with_progress(
    status: Mapping[str, Any], conditions: Conditions, run: RunRef, stages: Stages, plan: Plan
) -> tuple[dict[str, Any], Conditions]:
    """Return a status and conditions with what the stages of a run show."""
    rounds = read_rounds(status)
    fields = {
        **status,
        **learned_status(run.run, status),
        **rounds_status(rounds, plan, conditions.now, rejected=find_rejected_rounds(status)),
        **stages_status(stages.records, plan, run.run.spec.rounds.max_rounds),
    }
    return fields, set_promoted(conditions, rounds, plan)
