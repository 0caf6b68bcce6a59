"""Requests by annotation: which the operator accepts, and how long they stay in effect. Pure.

Each annotation governs one thing, so the last request for that thing wins. The status keeps the value that was answered
last and what came of it; an annotation that disappears afterwards changes nothing. An accepted request overrides its
field of the specification until that field changes. A rejected one leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from distillery.core.api import (
    CANARY_ANNOTATION,
    RETRY_ANNOTATION,
    SERVE_ANNOTATION,
    STAGES_ANNOTATION,
    DistillationRun,
    Spec,
)
from distillery.core.api.requests import ABORT, LATEST, PAUSE, PREVIOUS, RESUME
from distillery_operator.crd.status_schema import MAX_REQUEST
from distillery_operator.decide.canary.state import CanaryStatus
from distillery_operator.model import reasons
from distillery_operator.model.objects import Manifest, rfc3339
from distillery_operator.model.rounds import read_rounds


class RequestPhase(StrEnum):
    """The phase of a request."""

    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    ENDED = "Ended"
    """It was accepted, and its field of the specification changed since."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an annotation's last value.

    Attributes:
        name: the annotation.
        value: of the annotation.
        phase: accepted, rejected or ended.
        message: what is in effect, or why the request was rejected and the fix.
        time: when the phase began.
        effect: the value that is in effect in place of the field; empty for none.
        replaces: the value of the field at that time, in the words of requests.
    """

    name: str
    value: str
    phase: RequestPhase
    message: str
    time: str
    effect: str = ""
    replaces: str = ""

    @classmethod
    def from_status(cls, record: Mapping[str, Any]) -> Self:
        """Read a record of ``status.requests``."""
        return cls(**{**record, "phase": RequestPhase(record["phase"])})

    def to_status(self) -> dict[str, str]:
        """Write a record of ``status.requests``."""
        return {key: value for key, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Requests:
    """The answers to all requests.

    Attributes:
        answers: one for each annotation that was ever answered.
        aborts: the canary is to end now.
    """

    answers: tuple[Answer, ...] = ()
    aborts: bool = False

    @property
    def pauses_stages(self) -> bool:
        """True if no stage may start."""
        return self._effect(STAGES_ANNOTATION) == PAUSE

    @property
    def pinned_by(self) -> str:
        """The field or annotation that names the round to serve."""
        return SERVE_ANNOTATION if self._effect(SERVE_ANNOTATION) else "spec.serving.pinnedRound"

    def applied_to(self, run: DistillationRun) -> DistillationRun:
        """Return the run with the fields as they are in effect."""
        serving, pinned, canary = run.spec.serving, self._effect(SERVE_ANNOTATION), self._effect(CANARY_ANNOTATION)
        if pinned:
            serving = serving.model_copy(update={"pinned_round": None if pinned == LATEST else int(pinned)})
        if canary and serving.canary:
            paused = serving.canary.model_copy(update={"paused": canary == PAUSE})
            serving = serving.model_copy(update={"canary": paused})
        if serving is run.spec.serving:
            return run
        return run.model_copy(update={"spec": run.spec.model_copy(update={"serving": serving})})

    def condition(self) -> tuple[bool, str, str] | None:
        """Return the condition ``RequestAccepted``: whether it holds, reason and message; None without any request."""
        if not self.answers:
            return None
        if rejected := [answer.message for answer in self.answers if answer.phase is RequestPhase.REJECTED]:
            return False, reasons.RequestAccepted.REJECTED, " ".join(rejected)
        in_effect = [answer.message for answer in self.answers if answer.effect]
        return True, reasons.RequestAccepted.ACCEPTED, " ".join(in_effect) or "No request is in effect any more."

    def _effect(self, name: str) -> str:
        return next((answer.effect for answer in self.answers if answer.name == name), "")


class Rejected(Exception):
    """The rejection of a request, with the fix."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """The facts about a run that decide whether a request can be carried out."""

    spec: Spec
    status: Mapping[str, Any]
    complete: bool


def answer(
    body: Manifest, run: DistillationRun, status: Mapping[str, Any], *, complete: bool, now: datetime
) -> Requests:
    """Answer each annotation whose value is new, and end what the specification ends.

    Args:
        body: the run as the API server has it.
        run: the same, parsed.
        status: its status as the controller wrote it last.
        complete: no stage of the run starts any more.
        now: the time, with its zone.
    """
    annotations: Mapping[str, str] = body["metadata"].get("annotations", {})
    answered = {record["name"]: Answer.from_status(record) for record in status.get("requests", [])}
    facts, answers, aborts = _Facts(run.spec, status, complete), list[Answer](), False
    for name in _POLICIES:
        value, before = annotations.get(name, "")[:MAX_REQUEST], answered.get(name)
        if name == RETRY_ANNOTATION and (not complete or value == status.get("retryRequest", "")):
            continue  # retries.py acts on it
        if value and (before is None or before.value != value):
            new = _answer(name, value, before, facts, rfc3339(now))
            aborts = aborts or (new.phase is RequestPhase.ACCEPTED and _word(value) == ABORT)
            answers.append(new)
        elif before and (kept := _keep(before, facts, rfc3339(now), removed=not value)):
            answers.append(kept)
    return Requests(tuple(answers), aborts)


def _answer(name: str, value: str, before: Answer | None, facts: _Facts, now: str) -> Answer:
    try:
        effect, result = _POLICIES[name](_word(value), facts)
    except Rejected as error:
        message = f"{name} is {value}, which changes nothing: {error}"
        kept = {"effect": before.effect, "replaces": before.replaces} if before else {}
        return Answer(name, value, RequestPhase.REJECTED, message, now, **kept)
    field = _field(name, facts.spec)
    if effect in ("", field):  # nothing lasts, or the specification says the same
        effect = field = ""
    return Answer(name, value, RequestPhase.ACCEPTED, f"{name} is {value}: {result}.", now, effect, field)


def _keep(before: Answer, facts: _Facts, now: str, *, removed: bool) -> Answer | None:
    """Return an earlier answer as it is now; None if nothing of it is left.

    Args:
        before: the answer.
        facts: about the run.
        now: the time.
        removed: the annotation is gone, and with it the reason to report a rejection.
    """
    if before.effect and before.replaces != _field(before.name, facts.spec):
        message = f"{before.name} was {before.value}, which ended: {_FIELDS[before.name]} changed since."
        ended = replace(before, effect="", replaces="", time=now)
        if before.phase is RequestPhase.REJECTED:
            return None if removed else ended
        return replace(ended, phase=RequestPhase.ENDED, message=message)
    if removed and before.phase is RequestPhase.REJECTED:
        if not before.effect:
            return None
        message = f"{before.name}: {before.effect} is in effect still, from an earlier request."
        return replace(before, phase=RequestPhase.ACCEPTED, message=message)
    return before


def _word(value: str) -> str:
    """Return a request without the token that makes it new."""
    return value.partition("@")[0]


def _field(name: str, spec: Spec) -> str:
    """Return the value of the field that a request overrides, in the words of requests; empty if there is none."""
    if name == SERVE_ANNOTATION:
        return LATEST if spec.serving.pinned_round is None else str(spec.serving.pinned_round)
    if name == CANARY_ANNOTATION and spec.serving.canary:
        return PAUSE if spec.serving.canary.paused else RESUME
    return ""


def _serve(word: str, facts: _Facts) -> tuple[str, str]:
    """Return what a request to promote, or to roll back, puts into effect."""
    until = f"until {_FIELDS[SERVE_ANNOTATION]} changes"
    if word == LATEST:
        return LATEST, f"the student promoted last is to be served, {until}"
    number = _previous(facts.status) if word == PREVIOUS else word
    if not (number.isascii() and number.isdecimal()):
        raise Rejected(f"write the number of a round, with 0 the base model, {LATEST} or {PREVIOUS}, and @TOKEN.")
    number = str(int(number))
    ended = read_rounds(facts.status).get(int(number))
    if number != "0" and not (ended and ended.student):
        why = "trained no student" if ended else "has not ended"
        raise Rejected(f"round {number} {why}. Name a round of status.rounds that has a student.")
    student = f"the student of round {number}" if number != "0" else "the base model"
    return number, f"{student} is to be served, {until}"


def _previous(status: Mapping[str, Any]) -> str:
    """Return the round that was served before; where a canary is on trial, the round that is served next to it."""
    history = status.get("serving", {}).get("history", [])
    if not history:
        raise Rejected("nothing was served yet. Name a round of status.rounds, or 0 for the base model.")
    canary, served = CanaryStatus.read(status), history[0]["round"]
    if canary and canary.active:
        return str(served)
    # a canary that was rolled back left an entry of the student that is still served
    return str(next((entry["round"] for entry in history if entry["round"] != served), 0))


def _canary(word: str, facts: _Facts) -> tuple[str, str]:
    """Return what a request about a canary puts into effect."""
    canary = CanaryStatus.read(facts.status)
    if word == ABORT:
        if canary is None or not canary.active:
            raise Rejected(f"no canary is on trial. Remove the annotation, or roll back: {SERVE_ANNOTATION}.")
        return "", f"the canary of student {canary.student} ends"
    if word not in (PAUSE, RESUME):
        raise Rejected(f"write {PAUSE}, {RESUME} or {ABORT}, and @TOKEN.")
    if facts.spec.serving.canary is None:
        raise Rejected("the run has no spec.serving.canary. Add one, or remove the annotation.")
    does = "stays at its step" if word == PAUSE else "continues"
    return word, f"a canary {does}, until {_FIELDS[CANARY_ANNOTATION]} changes"


def _stages(word: str, facts: _Facts) -> tuple[str, str]:
    """Return what a request about the stages of a run puts into effect."""
    if word not in (PAUSE, RESUME):
        raise Rejected(f"write {PAUSE} or {RESUME}, and @TOKEN.")
    if facts.complete:
        raise Rejected("the run is complete, and no stage of it starts any more. Remove the annotation.")
    if word == RESUME and facts.spec.suspend:
        raise Rejected("spec.suspend is true, and suspends the run whatever annotations say. Set it to false.")
    return ("", "stages start again") if word == RESUME else (PAUSE, "stages that run finish, and none starts")


def _retry(word: str, facts: _Facts) -> tuple[str, str]:
    """Reject a request to retry: ``retries.py`` acts on those that are possible."""
    raise Rejected("the run is complete, and no stage of it failed. Remove the annotation.")


_POLICIES: Mapping[str, Callable[[str, _Facts], tuple[str, str]]] = {
    SERVE_ANNOTATION: _serve,
    CANARY_ANNOTATION: _canary,
    STAGES_ANNOTATION: _stages,
    RETRY_ANNOTATION: _retry,
}
"""The policy for each annotation. It returns the value in effect and a sentence, or raises :class:`Rejected`."""

_FIELDS = {SERVE_ANNOTATION: "spec.serving.pinnedRound", CANARY_ANNOTATION: "spec.serving.canary.paused"}
"""The fields that requests override."""
