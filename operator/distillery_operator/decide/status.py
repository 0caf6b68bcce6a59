"""The controller's part of a run's status, built from what it was. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from distillery.core.api import DistillationRun
from distillery.core.api.learned import digest_of_learned
from distillery.core.planner import Kind, Plan, Stage, StageId, StageState
from distillery.core.planner.graph import BASELINE, CANDIDATE
from distillery_operator.crd.status_schema import MAX_OF_STAGE
from distillery_operator.decide.canary.canary import Course
from distillery_operator.decide.canary.routing import Rollout, recorded
from distillery_operator.decide.readiness import readiness
from distillery_operator.decide.requests import Requests
from distillery_operator.decide.retries import has_begun
from distillery_operator.manifests import servers
from distillery_operator.manifests.gateway import SERVING
from distillery_operator.manifests.names import RunRef
from distillery_operator.model import conditions, reasons
from distillery_operator.model.objects import Manifest, rfc3339

SUSPICION_SECONDS = 15.0
"""Events are not watched: what is stuck is asked about now and then."""

_IMPATIENT_SECONDS = 1.0  # between two questions to pods that are about to serve another student
_IMPATIENCE = timedelta(minutes=1)


class StatusWriter:
    """The builder of the controller's part of the status, from what it was."""

    def __init__(self, body: Manifest, status: Mapping[str, Any], now: datetime) -> None:
        self.now = now
        self._now = rfc3339(now)
        self._generation: int = body["metadata"].get("generation", 1)
        self.status: dict[str, Any] = {key: value for key, value in status.items() if key != "progress"}
        self.conditions: list[dict[str, Any]] = [dict(c) for c in status.get("conditions", [])]
        self.requests = Requests()

    def set(self, kind: str, holds: bool | None, reason: str, message: str) -> None:
        """Set a condition."""
        self.conditions = conditions.set_condition(
            self.conditions, kind, holds, reason, message, now=self._now, generation=self._generation
        )

    def unblock(self) -> None:
        """Set Stalled to False if it was True."""
        if conditions.is_true(self.conditions, conditions.STALLED):
            message = "Nothing keeps the run from continuing any more."
            self.set(conditions.STALLED, False, reasons.Stalled.UNBLOCKED, message)

    def fail(self, reason: str, message: str) -> None:
        """Record that the run failed. It is stalled, too, which is what kstatus reads."""
        self.set(conditions.FAILED, True, reason, message)
        self.set(conditions.STALLED, True, reason, message)

    def record(
        self,
        run: DistillationRun,
        current: Plan,
        records: Mapping[str, dict[str, Any]],
        states: Mapping[StageId, StageState],
    ) -> None:
        """Record rounds that ended, stages of the present round, and the columns made of them."""
        rounds = {ended["round"]: ended for ended in self.status.get("rounds", [])}
        for verdict in current.verdicts:
            if verdict.round in rounds:
                continue
            result = states[StageId(verdict.round, Kind.PROMOTE)].result or {}
            rounds[verdict.round] = {
                "round": verdict.round,
                "verdict": verdict.outcome,
                "reason": verdict.reason,
                "promoted": verdict.promoted,
                "student": result.get("student") or "",
                "metricValue": verdict.metric,
                "arms": result.get("arms", {}),
                "completionTime": self._now,
            }
            promoted = reasons.Promoted.PROMOTED if verdict.promoted else reasons.Promoted.NOT_PROMOTED
            self.set(conditions.PROMOTED, verdict.promoted, promoted, f"Round {verdict.round}: {verdict.reason}")
            self._score(result.get("arms", {}))
        self.status["rounds"] = [rounds[number] for number in sorted(rounds)]
        of_round = {name: StageId.parse(name).round for name, record in records.items() if record.get("phase")}
        last = max(of_round.values(), default=0)
        self.status["stages"] = [records[name] for name in sorted(of_round) if of_round[name] in (0, last)]
        self.status |= {"round": current.round, "roundProgress": f"{current.round}/{run.spec.rounds.max_rounds}"}
        self.status["stage"] = _fitted(str(sid) for sid in current.running)

    def _score(self, arms: Mapping[str, Mapping[str, Any]]) -> None:
        scores = {
            column: f"{100 * arms[arm]['success']:.1f}"
            for column, arm in (("baseline", BASELINE), ("candidate", CANDIDATE))
            if arm in arms
        }
        self.status["scores"] = scores

    def resume(self, request: str) -> None:
        """Record that stages start again; ``request`` is what asked for it, if it was the user."""
        if request:
            self.status["retryRequest"] = request
        if conditions.is_true(self.conditions, conditions.FAILED):
            message = "What failed starts again."
            reason = reasons.Failed.RETRY_REQUESTED if request else reasons.Failed.SPEC_CHANGED
            self.set(conditions.FAILED, False, reason, message)
            self.status.pop("completionTime", None)

    def reopen(self, round: int) -> None:
        """Record that a round that ended is judged again, on more held-out tasks."""
        self.status["rounds"] = [ended for ended in self.status["rounds"] if ended["round"] != round]
        if conditions.is_true(self.conditions, conditions.COMPLETE):
            message = f"spec.environment.tasks.evaluate grew: round {round} is judged again."
            self.set(conditions.COMPLETE, False, reasons.Complete.TASKS_ADDED, message)
            self.status.pop("completionTime", None)

    def answer(self, requests: Requests) -> None:
        """Record the answers to requests by annotation."""
        self.requests = requests
        self.status.pop("requests", None)
        if requests.answers:
            self.status["requests"] = [answer.to_status() for answer in requests.answers]
        if condition := requests.condition():
            self.set(conditions.REQUEST_ACCEPTED, *condition)
        elif conditions.find(self.conditions, conditions.REQUEST_ACCEPTED):
            self.set(conditions.REQUEST_ACCEPTED, True, reasons.RequestAccepted.ACCEPTED, "No request is in effect.")

    def note_learned(self, run: DistillationRun) -> None:
        """Keep what the run learns, as long as it can change; an earlier release did not keep it at all."""
        if not has_begun(self.status) or "learnedDigest" not in self.status:
            self.status["learnedDigest"] = digest_of_learned(run)

    def start(self, stage: Stage, job: str, attempt: int) -> None:
        """Record that a stage is started."""
        record = {"name": str(stage.id), "phase": "Running", "job": job, "attempts": attempt, "startTime": self._now}
        others = [
            other
            for other in self.status.get("stages", [])
            # a round that ended stays until the next one begins
            if other["name"] != record["name"] and not 0 < StageId.parse(other["name"]).round < stage.id.round
        ]
        self.status["stages"] = sorted([*others, record], key=lambda r: r["name"])
        self.status["stage"] = _fitted(filter(None, (self.status.get("stage", ""), str(stage.id))))

    def serve(self, owner: RunRef, course: Course, how_far: Rollout, *, lacks: str = "", paused: bool = False) -> None:
        """Write what is served, and by how many replicas; and the canary.

        Args:
            owner: the run.
            course: who is served and who is tried.
            how_far: the servers are.
            lacks: why another student is served than the one that the user named; empty if it is that one.
            paused: servers make room for a round.
        """
        wanted, url = owner.run.spec.serving.replicas, servers.url(owner)
        choice, history = course.served, self.status.get("serving", {}).get("history", [])
        serving: dict[str, Any] = {
            "student": choice.student,
            "round": choice.round,
            "url": url,
            "model": owner.name,
            "replicas": how_far.pods,
            "readyReplicas": how_far.replicas,
            "selector": ",".join(f"{key}={value}" for key, value in owner.selector(SERVING.component).items()),
            "history": recorded(history, choice, self._now, taken_back=course.taken_back),
        }
        self.status["serving"] = serving
        self.try_out(course)
        # from step to step pods take other shares over one by one, and the stable student answers all the while
        if lacks:
            self.set(conditions.SERVING, False, reasons.Serving.STUDENT_NOT_FOUND, lacks)
        elif paused:
            message = "Nothing is served while a round is running: spec.serving.duringRounds is Pause."
            self.set(conditions.SERVING, False, reasons.Serving.PAUSED, message)
        elif wanted == 0:
            message = "Nothing is served while there are no replicas: spec.serving.replicas is 0."
            self.set(conditions.SERVING, False, reasons.Serving.NO_REPLICAS, message)
        elif how_far.available if course.newcomer else how_far.complete:
            message = f"{choice.called[0].upper()}{choice.called[1:]} answers at {url}."
            self.set(conditions.SERVING, True, reasons.Serving.AVAILABLE, message)
        else:
            message = f"{how_far.replicas} of {wanted} servers of {choice.called} are ready."
            if how_far.problem:
                message += f" One says: {how_far.problem}"
            self.set(conditions.SERVING, False, reasons.Serving.ROLLING_OUT, message)

    def try_out(self, course: Course) -> None:
        """Write the canary of the run."""
        serving = {key: value for key, value in self.status["serving"].items() if key != "canary"}
        self.status["serving"] = serving | ({"canary": course.trial.to_status()} if course.trial else {})
        if news := course.news:
            self.set(conditions.CANARY_PROGRESSING, news.holds, news.reason, news.message)

    def seconds_to_ask_again(self) -> float:
        """Return when to ask pods again what they serve: they say so in seconds, or something is wrong."""
        since = conditions.find(self.conditions, conditions.SERVING)
        assert since is not None
        waited = datetime.fromisoformat(self._now) - datetime.fromisoformat(since["lastTransitionTime"])
        return _IMPATIENT_SECONDS if waited < _IMPATIENCE else SUSPICION_SECONDS

    def finish(self, phase: str, message: str) -> dict[str, Any]:
        """Complete the status, and return it."""
        self.set(conditions.READY, *readiness(phase, message, self.conditions))
        self.status |= {
            "observedGeneration": self._generation,
            "conditions": self.conditions,
            "phase": phase,
            "message": message[:4096],
        }
        self.status.setdefault("startTime", self._now)
        if phase in ("Complete", "Failed"):
            self.status.setdefault("completionTime", self._now)
            self.status["stage"] = ""
        return self.status


def _fitted(stages: Iterable[str]) -> str:
    """The names of stages, as many as the column holds: nine evaluations at once can be too many."""
    joined = ",".join(stages)
    if len(joined) <= MAX_OF_STAGE:
        return joined
    return joined[: MAX_OF_STAGE - 3].rpartition(",")[0] + ",..."
