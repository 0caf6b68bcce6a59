"""A canary on live traffic, step by step, until it is promoted or rolled back. Pure.

Its state is in the status, in ``serving.canary``; its traffic counts are those that pods report now. So an operator
that starts again resumes the canary, and a pod that starts again only has to collect its evidence again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from math import ceil
from typing import Any, Self

from distillery.core.api.spec.canary import Canary, CanaryStep
from distillery.core.planner.graph import BASE, candidate_of
from distillery_operator.decide.canary.analysis import (
    ABORTED,
    ERROR,
    FAILED,
    INCONCLUSIVE,
    RUNNING,
    SUCCESSFUL,
    Counts,
    judge,
)
from distillery_operator.decide.canary.routing import Choice, holds
from distillery_operator.manifests import canary_servers, gateway, servers
from distillery_operator.manifests.gateway import CANARY, Newcomer
from distillery_operator.manifests.names import COMPONENT_LABEL, STUDENT_LABEL, RunRef, digest
from distillery_operator.model.objects import Manifest, ObjectRef, rfc3339
from distillery_operator.model.observed import Observed, serving_pods
from distillery_operator.model.reasons import CanaryProgressing as _Reason

LOOK_SECONDS = 5.0
"""The poll interval for a canary."""

STARTING = "Starting"
_ACTIVE = (STARTING, RUNNING, INCONCLUSIVE)
_REJECTED = (FAILED, ERROR, ABORTED)  # not tried again; to serve it, name its round
_MAX_SILENCE = 120.0

_NAMES = {
    "step_decided_time": "stepDecidedTime",
    "step_start_time": "stepStartTime",
    "spec_hash": "specHash",
}
"""The fields of the status whose names differ from those of the attributes."""
_ATTRIBUTES = {name: attribute for attribute, name in _NAMES.items()}


@dataclass(frozen=True, slots=True)
class Trial:
    """The status of a canary.

    Attributes:
        student: the first digits of its digest.
        round: whose student it is.
        step: the current step, or the last one; from 1.
        steps: how many there are.
        weight: per cent of the sessions in this step.
        shadow: it gets copies instead.
        phase: ``Starting`` until every pod has applied the step; then as in ``analysis``.
        message: why.
        step_decided_time: when the step was decided on.
        step_start_time: when it began for every pod; before that, as ``step_decided_time``.
        spec_hash: digest of the steps and the analysis, so that an edit is noticed.
        canary: the canary's traffic counts, at the last change of the phase.
        stable: the stable student's.
    """

    student: str
    round: int
    step: int
    steps: int
    weight: int
    shadow: bool
    phase: str
    message: str
    step_decided_time: str
    step_start_time: str
    spec_hash: str
    canary: Counts = field(default_factory=Counts)
    stable: Counts = field(default_factory=Counts)

    @classmethod
    def read(cls, status: Mapping[str, Any]) -> Self | None:
        """Return the canary of a status, or None."""
        found: dict[str, Any] | None = status.get("serving", {}).get("canary")
        if found is None:
            return None
        values = {_ATTRIBUTES.get(name, name): value for name, value in found.items()}
        sides: dict[str, Any] = {side: Counts(**found[side]) for side in ("canary", "stable")}
        return cls(**{**values, **sides})

    @property
    def active(self) -> bool:
        """True if the canary is neither promoted nor rolled back yet."""
        return self.phase in _ACTIVE

    @property
    def begun(self) -> bool:
        """True if every pod has applied a step: requests, or copies of them, were sent to the canary."""
        if self.step > 1 or self.phase == RUNNING:
            return True
        return self.phase == INCONCLUSIVE and self.step_start_time != self.step_decided_time

    def of(self, choice: Choice) -> bool:
        """Return whether this is the canary of a student."""
        return (self.student, self.round) == (choice.student, choice.round)

    def to_status(self) -> dict[str, Any]:
        """Write ``status.serving.canary``."""
        return {_NAMES.get(attribute, attribute): value for attribute, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class News:
    """The condition ``CanaryProgressing``."""

    holds: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Course:
    """The plan of a canary: the stable student, and the student on trial.

    Attributes:
        served: the stable student: answers all that the canary does not.
        trial: the canary's status; None if there is nothing to remember.
        newcomer: the student on trial, if there is one.
        guest: the canary's route for the pods; None before its servers are there.
        news: a condition that changed, if one did.
        taken_back: why a canary was rolled back just now; else empty.
    """

    served: Choice
    trial: Trial | None = None
    newcomer: Choice | None = None
    guest: Newcomer | None = None
    news: News | None = None
    taken_back: str = ""


def is_watched(status: Mapping[str, Any], observed: Observed) -> bool:
    """Return whether pods are to be polled: a canary is on trial, or its own servers still exist."""
    trial = Trial.read(status)
    return (trial is not None and trial.active) or _own_servers(observed) is not None


def plot(
    owner: RunRef,
    choice: Choice,
    status: Mapping[str, Any],
    observed: Observed,
    now: datetime,
    *,
    aborted: bool = False,
) -> Course:
    """Return the course of a run whose choice is made.

    Args:
        owner: the run.
        choice: who is to be served in the end.
        status: the run's.
        observed: the run's objects, and what its pods say.
        now: the time, with its zone.
        aborted: the user requests the end of the canary.
    """
    asked, trial, served = owner.run.spec.serving, Trial.read(status), incumbent_of(status)
    if (
        served is None
        or (served.student, served.round) == (choice.student, choice.round)
        or asked.pinned_round is not None
    ):
        return _settled(choice, trial)
    if trial and trial.of(choice) and trial.phase in _REJECTED:
        return Course(served, trial)  # whoever wants it all the same pins it
    if asked.canary is None or not choice.round:
        return _settled(choice, trial)
    if not asked.replicas:
        return _put_off(choice, served, trial)
    return _try(owner, asked.canary, choice, served, trial, observed, now, aborted=aborted)


def to_delete(
    owner: RunRef, course: Course, observed: Observed, generation: int, *, complete: bool
) -> tuple[tuple[ObjectRef, str], ...]:
    """Return the canary's own servers once they are not needed, because the stable servers hold it or send it nothing.

    Args:
        owner: the run.
        course: who is served and who is tried.
        observed: the run's objects.
        generation: of the pods' routing document.
        complete: all servers that clients reach hold who is served.
    """
    found = _own_servers(observed)
    if found is None or course.newcomer or found["metadata"].get("deletionTimestamp"):
        return ()
    if found["spec"]["template"]["metadata"]["labels"].get(STUDENT_LABEL) != course.served.student:
        names = (pod["metadata"]["name"] for pod in serving_pods(observed))
        left = all(observed.generations.get(name) == generation for name in names)
        complete = left or observed.silence >= _MAX_SILENCE
    return canary_servers.to_delete(owner, found) if complete else ()


def seconds_to_next_look(course: Course, observed: Observed) -> float | None:
    """Return the seconds until a canary, or the rest of its servers, is polled again; None if there is neither."""
    return LOOK_SECONDS if course.newcomer or _own_servers(observed) else None


def incumbent_of(status: Mapping[str, Any]) -> Choice | None:
    """Return the student that the status says is served, or None."""
    serving = status.get("serving")
    if serving is None:
        return None
    number = serving["round"]
    if number == 0:
        return Choice(BASE, "", 0, "")
    ended = next((r for r in status.get("rounds", []) if r["round"] == number), {})
    return Choice(candidate_of(number), ended.get("student", ""), number, "")


def _own_servers(observed: Observed) -> Manifest | None:
    """The Deployment of a newcomer whose weights are merged."""
    found = observed.deployments.values()
    return next((one for one in found if one["metadata"]["labels"][COMPONENT_LABEL] == CANARY.component), None)


def _settled(choice: Choice, trial: Trial | None) -> Course:
    """The choice is served to all; a trial that was under way ends, and one that failed is forgotten with a pardon."""
    if trial is None:
        return Course(choice)
    if not trial.active:
        forgiven = trial.of(choice) and trial.phase in _REJECTED
        return Course(choice, None if forgiven else trial)
    what = _Reason.PROMOTED if trial.of(choice) else _Reason.ROLLED_BACK
    message = f"The canary of student {trial.student} ended in step {trial.step} of {trial.steps}: {choice.reason}"
    return Course(choice, news=News(False, what, message))


def _put_off(choice: Choice, served: Choice, trial: Trial | None) -> Course:
    """Without servers nobody is tried: what was under way begins anew once there are some."""
    none = "spec.serving has 0 replicas, or a round is running and duringRounds is Pause."
    news = News(False, _Reason.WAITING_FOR_SERVERS, f"{_called(choice)} is tried once there are servers: {none}")
    return Course(served, None if trial and trial.active else trial, news=news)


def _try(
    owner: RunRef,
    canary: Canary,
    choice: Choice,
    served: Choice,
    trial: Trial | None,
    observed: Observed,
    now: datetime,
    *,
    aborted: bool,
) -> Course:
    """One look at a newcomer's step."""
    aborted = aborted and trial is not None and trial.active and trial.of(choice)
    spec_hash = digest(canary.model_dump(mode="json", exclude={"paused"}))
    superseded = _superseded(trial, choice) if trial and trial.active and not trial.of(choice) else ""
    if trial is None or not trial.of(choice) or not trial.active:
        trial = _begin(choice, canary, 1, spec_hash, now)
    elif trial.spec_hash != spec_hash:
        trial = _begin(choice, canary, min(trial.step, len(canary.steps)), spec_hash, now)
    step = canary.steps[trial.step - 1]
    guest = _guest(owner, choice, canary, trial, observed)
    grows = _grows(owner, choice, canary, trial, observed)
    generation = _generation(owner, served, guest)
    pods = [pod["metadata"]["name"] for pod in serving_pods(observed)]
    telling = [name for name in pods if observed.generations.get(name) == generation]
    live = [observed.live.get(name, {}) for name in telling]
    newcomer, incumbent = (Counts.sum(said.get(who.student, Counts()) for said in live) for who in (choice, served))
    known = guest is not None and not grows and bool(pods) and len(telling) == len(pods)
    looked = _look(trial, canary, step, newcomer, incumbent, known=known, silence=observed.silence, now=now)
    if aborted:
        looked = replace(trial, phase=ABORTED, message="The user aborted it.")
    if looked.phase != trial.phase:
        looked = replace(looked, canary=newcomer, stable=incumbent)
    if looked.phase == SUCCESSFUL and looked.step < looked.steps:
        looked = _begin(choice, canary, looked.step + 1, spec_hash, now)
        looked = replace(looked, canary=newcomer, stable=incumbent)
        guest = _guest(owner, choice, canary, looked, observed)
    if looked.phase == SUCCESSFUL:
        reason = f"{choice.reason} Successful in every step on live traffic ({looked.steps}). {looked.message}"
        news = News(False, _Reason.PROMOTED, f"{_called(choice)} is served to all. {looked.message}")
        return Course(replace(choice, reason=reason), looked, news=news)
    if not looked.active:
        why = f"{_called(choice)} was rolled back in step {looked.step} of {looked.steps}. {looked.message}"
        ended = _Reason.ABORTED if aborted else _Reason.ROLLED_BACK
        return Course(served, looked, news=News(False, ended, why), taken_back=why)
    news = News(True, _Reason.SUPERSEDED, superseded) if superseded else _news(choice, canary, looked)
    return Course(served, looked, choice, guest, news, taken_back=superseded)


def _begin(choice: Choice, canary: Canary, number: int, spec_hash: str, now: datetime) -> Trial:
    step = canary.steps[number - 1]
    return Trial(
        choice.student, choice.round, number, len(canary.steps), step.weight, step.shadow, STARTING,
        f"{_share(step)}.", rfc3339(now), rfc3339(now), spec_hash,
    )  # fmt: skip


def _guest(owner: RunRef, choice: Choice, canary: Canary, trial: Trial, observed: Observed) -> Newcomer | None:
    """What pods are told of the newcomer.

    Nothing before the servers of its own that merged weights need are there. Once traffic goes to them it stays, and
    what they fail then counts. A share that needs more servers begins with them.
    """
    step = canary.steps[trial.step - 1]
    there = servers.serves_adapters(owner.run.spec) or trial.begun
    if not there and not holds(_own_servers(observed), choice, _replicas(owner, step)):
        return None
    if _grows(owner, choice, canary, trial, observed):
        step = canary.steps[trial.step - 2]
    slow = canary.analysis.max_first_token_seconds
    return Newcomer(choice.model, choice.digest, step.weight, trial.step_decided_time, slow)


def _grows(owner: RunRef, choice: Choice, canary: Canary, trial: Trial, observed: Observed) -> bool:
    """Whether a step waits for servers that the one before it did not need."""
    if servers.serves_adapters(owner.run.spec) or trial.phase != STARTING or trial.step == 1:
        return False
    before, wanted = (_replicas(owner, canary.steps[number]) for number in (trial.step - 2, trial.step - 1))
    return wanted > before and not holds(_own_servers(observed), choice, wanted)


def replicas_of(owner: RunRef, course: Course) -> int:
    """Return how many servers of its own the canary gets: its share of those that serve."""
    canary, trial = owner.run.spec.serving.canary, course.trial
    return _replicas(owner, canary.steps[trial.step - 1]) if canary and trial else 1


def _replicas(owner: RunRef, step: CanaryStep) -> int:
    """Copies of requests get one server: each gateway has eight of them under way at most."""
    return max(1, ceil(owner.run.spec.serving.replicas * step.weight / 100))


def _generation(owner: RunRef, served: Choice, guest: Newcomer | None) -> int:
    adapter = servers.serves_adapters(owner.run.spec)
    return gateway.desired(owner, served.model, served.digest, adapter=adapter, newcomer=guest)["generation"]


def _look(
    trial: Trial,
    canary: Canary,
    step: CanaryStep,
    newcomer: Counts,
    incumbent: Counts,
    *,
    known: bool,
    silence: float,
    now: datetime,
) -> Trial:
    """The trial after a look; the same where nothing is shown."""
    if trial.phase == STARTING and known:
        return replace(trial, phase=RUNNING, step_start_time=rfc3339(now))
    if canary.paused:
        return trial
    if silence >= _MAX_SILENCE and trial.begun:
        return replace(trial, phase=ERROR, message=f"No pod said for {silence:.0f} s how it does.")
    seconds = (now - datetime.fromisoformat(trial.step_start_time)).total_seconds()
    over = seconds >= step.progress_deadline_seconds
    runs = trial.phase == RUNNING  # else it waits for pods or for the user, but harm is not waited for
    last = seconds >= step.min_duration_seconds and runs
    finding = judge(
        newcomer, incumbent, canary.analysis, shadow=step.shadow, over=last, steps=len(canary.steps), explain=over
    )
    if finding.outcome in (FAILED, SUCCESSFUL):
        return replace(trial, phase=finding.outcome, message=finding.message)
    undecided = FAILED if canary.inconclusive_policy == "Abort" else INCONCLUSIVE
    if over and trial.phase == STARTING:
        message = f"Not every pod served it within {step.progress_deadline_seconds} s."
        return replace(trial, phase=undecided, message=message)
    if over and runs:
        message = f"Neither better nor worse is shown after {step.progress_deadline_seconds} s: {finding.message}."
        return replace(trial, phase=undecided, message=message)
    return trial


def _news(choice: Choice, canary: Canary, trial: Trial) -> News:
    told = f"Step {trial.step} of {trial.steps}: {_called(choice)}"
    share = _share(canary.steps[trial.step - 1])
    if canary.paused:
        return News(True, _Reason.PAUSED, f"{told} {share}, until you resume it.")
    if trial.phase == INCONCLUSIVE:
        mend = "Promote it, roll it back, or change spec.serving.canary."
        return News(True, _Reason.INCONCLUSIVE, f"{told} {share}. {trial.message} {mend}")
    return News(True, _Reason.STEP_STARTED, f"{told} {share}.")


def _share(step: CanaryStep) -> str:
    return "gets a copy of every request" if step.shadow else f"gets {step.weight} % of the sessions"


def _superseded(trial: Trial, choice: Choice) -> str:
    was = f"student {trial.student} of round {trial.round}"
    return f"{was} was replaced in step {trial.step} of {trial.steps} by {_called(choice)}, which is tried instead."


def _called(choice: Choice) -> str:
    return f"{choice.called} of round {choice.round}"
