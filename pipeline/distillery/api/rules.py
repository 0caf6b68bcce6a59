"""Rules between fields: each names the field to blame, what is wrong, and the mend.

A rule is checked here for ``distillery run FILE``; the same table carries it to the API server once the resource is
installed there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distillery.api.run import Spec


@dataclass(frozen=True, slots=True)
class Rule:
    """``holds(spec)`` must be true; else ``path`` is to blame and ``mend`` tells what to do."""

    path: str
    holds: Callable[[Spec], bool]
    mend: str


def _is_folder(model: str) -> bool:
    return model.startswith(("/", "./", "../"))


def _pinned(model: str, revision: str | None) -> bool:
    return _is_folder(model) != (revision is not None)


_PIN = (
    "pin the model: a repository needs the revision (its commit), a folder (a path that begins with / or ./) has none"
)

RULES: tuple[Rule, ...] = (
    Rule("spec.models.student.revision", lambda s: _pinned(s.models.student.model, s.models.student.revision), _PIN),
    Rule(
        "spec.models.teacher",
        lambda s: s.models.teacher is None or (s.models.teacher.model is None) != (s.models.teacher.endpoint is None),
        "give either model or endpoint",
    ),
    Rule(
        "spec.models.teacher.revision",
        lambda s: (
            s.models.teacher is None
            or (
                s.models.teacher.revision is None
                if s.models.teacher.model is None
                else _pinned(s.models.teacher.model, s.models.teacher.revision)
            )
        ),
        _PIN,
    ),
    Rule(
        "spec.hints.extractor",
        lambda s: s.hints.extractor != "llm" or s.models.extractor is not None,
        "llm needs spec.models.extractor.endpoint; give it, or write miner",
    ),
    Rule(
        "spec.models.extractor",
        lambda s: s.hints.extractor != "miner" or s.models.extractor is None,
        "the miner uses no language model; leave spec.models.extractor out, or write spec.hints.extractor: llm",
    ),
    Rule(
        "spec.hints.retriever",
        lambda s: s.hints.retriever != "none",
        "without hints there is nothing to distil; choose another retriever (the arm base plays without hints)",
    ),
    Rule(
        "spec.evaluation.arms",
        lambda s: {"base", "distilled"} <= set(s.evaluation.arms),
        "list at least base and distilled, which the gate compares",
    ),
    Rule(
        "spec.evaluation.arms",
        lambda s: len(set(s.evaluation.arms)) == len(s.evaluation.arms),
        "list each arm once",
    ),
    Rule(
        "spec.evaluation.seeds",
        lambda s: s.evaluation.seeds == 1 or s.evaluation.temperature > 0,
        "greedy episodes are all alike; set spec.evaluation.temperature above 0, or seeds to 1",
    ),
    Rule(
        "spec.teaching.attempts",
        lambda s: (
            s.teaching.attempts == 1
            or (s.rollout.temperature if s.teaching.temperature is None else s.teaching.temperature) > 0
        ),
        "greedy attempts are all alike; set spec.teaching.temperature above 0, or attempts to 1",
    ),
    Rule(
        "spec.agent.maxCalls",
        lambda s: s.agent.max_calls >= s.environment.max_steps,
        "must be at least spec.environment.maxSteps, for each step costs a call",
    ),
    Rule(
        "spec.rollout.leaseSeconds",
        lambda s: s.rollout.lease_seconds >= 10,
        "write 10 or more; a lease is renewed every third of it",
    ),
    Rule(
        "spec.rounds.patience",
        lambda s: s.rounds.patience is None or s.rounds.patience <= s.rounds.max,
        "must not exceed spec.rounds.max",
    ),
    Rule(
        "spec.rounds.until",
        lambda s: s.rounds.until is None or s.promotion.policy == "Auto",
        "needs spec.promotion.policy: Auto, for the target is judged on promoted students",
    ),
)
