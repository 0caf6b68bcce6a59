"""Rules between fields: each names the field to blame, the problem, and the fix.

Each rule is written twice, side by side: as Python for ``distillery run FILE`` and as CEL for the API server, which
rejects violations at ``kubectl apply``. Tests compare the two on a real API server.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, pairwise

from distillery.core.api.run import Spec
from distillery.core.api.spec.canary import CanaryStep
from distillery.core.api.spec.evaluation import BUILTIN_ARMS
from distillery.core.api.spec.infrastructure import asks_for_gpu


@dataclass(frozen=True, slots=True)
class Rule:
    """``holds(spec)`` must be true, and so must ``cel`` with the spec as ``self``; else ``path`` is to blame."""

    path: str
    holds: Callable[[Spec], bool]
    cel: str
    fix: str


def _is_folder(model: str) -> bool:
    """Return whether a model is written as a folder."""
    return model.startswith(("/", "./", "../"))


def _is_pinned(model: str, revision: str | None) -> bool:
    """Return whether a repository has a revision, or a folder none."""
    return _is_folder(model) != (revision is not None)


def _stores_in_s3(spec: Spec) -> bool:
    """Return whether artifacts are stored in S3."""
    return spec.storage.uri is not None and spec.storage.uri.startswith("s3://")


def _canary_steps(spec: Spec) -> tuple[CanaryStep, ...]:
    """Return the steps of the canary; none if there is no canary."""
    return spec.serving.canary.steps if spec.serving.canary else ()


UNTRAINED = ("base", "baseline", "rag", "placebo")
"""Arms that no student plays."""

LEARNING = ("own", "teacher", "placebo-teacher")
"""Plays on training tasks."""

RESERVED = frozenset(
    {*(arm.removesuffix("+rag") for arm in BUILTIN_ARMS), *LEARNING, "own-sft", "live", "confirm-baseline"}
    | {"confirm-candidate", "prepare", "none"}
)
"""The names that no play and no student of a user can have."""


def _is_arm(arm: str, spec: Spec) -> bool:
    """Return whether a run has an arm: a built-in one, a play on held-out tasks, or a student, also with hints."""
    plays = {play.name for play in spec.plays if play.tasks == "evaluate"}
    return arm in BUILTIN_ARMS or arm in plays or arm.removesuffix("+rag") in {one.name for one in spec.students}


_FOLDER = r"^(/|\\./|\\.\\./)"
"""A model that is a folder, as a regular expression in a string of CEL."""

_PIN = (
    "pin the model: a repository needs the revision (its commit: git ls-remote https://huggingface.co/OWNER/NAME main "
    "prints it), a folder (a path that begins with / or ./) has none"
)


def _match_abbreviations(option: str) -> str:
    """Return an expression for what vLLM's parser takes for an option: its beginnings, and ``_`` for ``-``."""
    expression = ""
    for letter in reversed(option[2:]):
        expression = f"({letter}{expression})?"
    return option[:2] + expression.replace("-", "[-_]")


_RESERVED_OPTIONS = ("host", "port", "uds", "grpc-port", "api-key", "root-path", "middleware")
_RESERVED_ARGUMENT = f"(?s)^--({'|'.join(map(_match_abbreviations, _RESERVED_OPTIONS))}|ssl[-_a-z]*|config)(=.*)?$"
"""Arguments of vLLM, in the syntax of Python's re and of RE2, that decide where it listens and whom it answers."""

RULES: tuple[Rule, ...] = (
    Rule(
        "spec.models.student.revision",
        lambda s: _is_pinned(s.models.student.model, s.models.student.revision),
        f"self.models.student.model.matches('{_FOLDER}') != has(self.models.student.revision)",
        _PIN,
    ),
    Rule(
        "spec.models.teacher",
        lambda s: s.models.teacher is None or (s.models.teacher.model is None) != (s.models.teacher.endpoint is None),
        "!has(self.models.teacher) || has(self.models.teacher.model) != has(self.models.teacher.endpoint)",
        "give either model or endpoint",
    ),
    Rule(
        "spec.models.teacher.revision",
        lambda s: (
            s.models.teacher is None
            or (
                s.models.teacher.revision is None
                if s.models.teacher.model is None
                else _is_pinned(s.models.teacher.model, s.models.teacher.revision)
            )
        ),
        "!has(self.models.teacher) || (has(self.models.teacher.model)"
        f" ? self.models.teacher.model.matches('{_FOLDER}') != has(self.models.teacher.revision)"
        " : !has(self.models.teacher.revision))",
        _PIN,
    ),
    Rule(
        "spec.hints.extractor",
        lambda s: s.hints.extractor != "llm" or s.models.extractor is not None,
        "!has(self.hints.extractor) || self.hints.extractor != 'llm' || has(self.models.extractor)",
        "llm needs spec.models.extractor.endpoint; give it, or write rules",
    ),
    Rule(
        "spec.models.extractor",
        lambda s: s.hints.extractor != "rules" or s.models.extractor is None,
        "!has(self.hints.extractor) || self.hints.extractor != 'rules' || !has(self.models.extractor)",
        "rules use no language model; leave spec.models.extractor out, or write spec.hints.extractor: llm",
    ),
    Rule(
        "spec.hints.retriever",
        lambda s: s.hints.retriever != "none",
        "self.hints.retriever != 'none'",
        "without hints there is nothing to distil; choose another retriever (the arm baseline plays without hints)",
    ),
    Rule(
        "spec.plays",
        lambda s: not RESERVED.intersection(p.name for p in s.plays) and len({p.name for p in s.plays}) == len(s.plays),
        f"self.plays.all(p, !(p.name in {sorted(RESERVED)}) && self.plays.exists_one(q, q.name == p.name))",
        "give each play a name of its own, which no built-in play or student has",
    ),
    Rule(
        "spec.students",
        lambda s: (
            not RESERVED.intersection(t.name for t in s.students)
            and len({*(t.name for t in s.students), *(p.name for p in s.plays)}) == len(s.students) + len(s.plays)
        ),
        f"self.students.all(t, !(t.name in {sorted(RESERVED)}) && self.students.exists_one(u, u.name == t.name) && "
        "!self.plays.exists(p, p.name == t.name))",
        "give each student a name of its own, which no play and no built-in student has",
    ),
    Rule(
        "spec.students",
        lambda s: all(
            t.learns_from in (*LEARNING, *(p.name for p in s.plays if p.tasks == "train")) for t in s.students
        ),
        f"self.students.all(t, t.learnsFrom in {list(LEARNING)} || "
        "self.plays.exists(p, p.name == t.learnsFrom && p.tasks == 'train'))",
        f"learnsFrom names a play on training tasks: {', '.join(LEARNING)}, or one of spec.plays with tasks: train",
    ),
    Rule(
        "spec.evaluation.arms",
        lambda s: all(_is_arm(arm, s) for arm in s.evaluation.arms),
        f"self.evaluation.arms.all(a, a in {list(BUILTIN_ARMS)} || "
        "self.plays.exists(p, p.name == a && p.tasks == 'evaluate') || "
        "self.students.exists(t, t.name == a || t.name + '+rag' == a))",
        f"each arm is one of {', '.join(BUILTIN_ARMS)}, of spec.students, or of spec.plays with tasks: evaluate",
    ),
    Rule(
        "spec.evaluation.arms",
        lambda s: {"baseline", s.promotion.gate.candidate} <= set(s.evaluation.arms),
        "'baseline' in self.evaluation.arms && self.promotion.gate.candidate in self.evaluation.arms",
        "list at least baseline and the student that spec.promotion.gate.candidate names (default: distilled), which "
        "the gate compares",
    ),
    Rule(
        "spec.promotion.gate.candidate",
        lambda s: s.promotion.gate.candidate not in (*UNTRAINED, *(play.name for play in s.plays)),
        f"!(self.promotion.gate.candidate in {list(UNTRAINED)}) && "
        "!self.plays.exists(p, p.name == self.promotion.gate.candidate)",
        "name a student, such as distilled, for what is promoted plays without hints",
    ),
    Rule(
        "spec.evaluation.arms",
        lambda s: len(set(s.evaluation.arms)) == len(s.evaluation.arms),
        "self.evaluation.arms.all(a, self.evaluation.arms.exists_one(b, a == b))",
        "list each arm once",
    ),
    Rule(
        "spec.evaluation.arms",
        lambda s: sum(arm.endswith("-matched") for arm in s.evaluation.arms) != 1,
        "!self.evaluation.arms.exists_one(a, a.endsWith('-matched'))",
        "a -matched student is matched with others; list another one, such as sft-matched",
    ),
    Rule(
        "spec.evaluation.rolloutsPerTask",
        lambda s: s.evaluation.rollouts_per_task == 1 or s.evaluation.temperature > 0,
        "self.evaluation.rolloutsPerTask == 1 || self.evaluation.temperature > 0.0",
        "greedy episodes are all alike; set spec.evaluation.temperature above 0, or rolloutsPerTask to 1",
    ),
    Rule(
        "spec.teacherRollout.rolloutsPerTask",
        lambda s: (
            s.teacher_rollout.rollouts_per_task == 1
            or (s.rollout.temperature if s.teacher_rollout.temperature is None else s.teacher_rollout.temperature) > 0
        ),
        "self.teacherRollout.rolloutsPerTask == 1 || "
        "(has(self.teacherRollout.temperature) ? self.teacherRollout.temperature : self.rollout.temperature) > 0.0",
        "greedy episodes are all alike; set spec.teacherRollout.temperature above 0, or rolloutsPerTask to 1",
    ),
    Rule(
        "spec.stages.train.resources.limits",
        lambda s: s.training.quantization != "nf4" or asks_for_gpu(s.stages.train.resources),
        "self.training.quantization != 'nf4' || "
        "self.stages.train.resources.limits.exists(name, name.contains('gpu') || name.contains('/mig-'))",
        'nf4 needs a GPU: ask for one, such as {nvidia.com/gpu: "1"}, or write spec.training.quantization: none',
    ),
    Rule(
        "spec.agent.maxTurns",
        lambda s: s.agent.max_turns >= s.environment.max_steps,
        "self.agent.maxTurns >= self.environment.maxSteps",
        "must be at least spec.environment.maxSteps, for each step takes a turn",
    ),
    Rule(
        "spec.rounds.arrivals",
        lambda s: len(s.rounds.arrivals) <= s.rounds.max_rounds,
        "self.rounds.arrivals.size() <= self.rounds.maxRounds",
        "must not have more groups than spec.rounds.maxRounds",
    ),
    Rule(
        "spec.rounds.arrivals",
        lambda s: all(set(a).isdisjoint(b) for a, b in combinations(s.rounds.arrivals, 2)),
        "self.rounds.arrivals.all(g, self.rounds.arrivals.exists_one(h, h.exists(l, l in g)))",
        "list each label in one group only",
    ),
    Rule(
        "spec.rounds.patience",
        lambda s: s.rounds.patience is None or s.rounds.patience <= s.rounds.max_rounds,
        "!has(self.rounds.patience) || self.rounds.patience <= self.rounds.maxRounds",
        "must not exceed spec.rounds.maxRounds",
    ),
    Rule(
        "spec.rounds.target",
        lambda s: s.rounds.target is None or s.promotion.policy == "Auto",
        "!has(self.rounds.target) || self.promotion.policy == 'Auto'",
        "needs spec.promotion.policy: Auto, for the target is judged on promoted students",
    ),
    Rule(
        "spec.rounds.trigger",
        lambda s: s.rounds.trigger is None or s.serving.feedback is not None,
        "!has(self.rounds.trigger) || has(self.serving.feedback)",
        "needs spec.serving.feedback, which keeps the sessions that it waits for",
    ),
    Rule(
        "spec.serving.scaling",
        lambda s: s.serving.scaling == "Fixed" or s.serving.during_rounds == "Serve",
        "self.serving.scaling == 'Fixed' || self.serving.duringRounds == 'Serve'",
        "External needs spec.serving.duringRounds: Serve, for the operator and an autoscaler can't both set "
        "the number of pods",
    ),
    Rule(
        "spec.serving.pinnedRound",
        lambda s: s.serving.pinned_round is None or s.serving.pinned_round <= s.rounds.max_rounds,
        "!has(self.serving.pinnedRound) || self.serving.pinnedRound <= self.rounds.maxRounds",
        "must not exceed spec.rounds.maxRounds; 0 is the base model",
    ),
    Rule(
        "spec.serving.canary.steps",
        lambda s: all((step.weight > 0) != step.shadow for step in _canary_steps(s)),
        "!has(self.serving.canary) || self.serving.canary.steps.all(s, (s.weight > 0) != s.shadow)",
        "give each step a weight from 1 to 99, or shadow: true, and not both",
    ),
    Rule(
        "spec.serving.canary.steps",
        lambda s: all(earlier.weight <= later.weight for earlier, later in pairwise(_canary_steps(s))),
        "!has(self.serving.canary) || self.serving.canary.steps.map(s, s.weight).isSorted()",
        "weights must not fall from step to step; steps with shadow: true come first",
    ),
    Rule(
        "spec.serving.canary.steps",
        lambda s: all(step.progress_deadline_seconds >= step.min_duration_seconds for step in _canary_steps(s)),
        "!has(self.serving.canary) || "
        "self.serving.canary.steps.all(s, s.progressDeadlineSeconds >= s.minDurationSeconds)",
        "progressDeadlineSeconds (default: 3600) must be at least the step's minDurationSeconds",
    ),
    Rule(
        "spec.modelServer.extraArgs",
        lambda s: not any(re.match(_RESERVED_ARGUMENT, argument) for argument in s.model_server.extra_args),
        f"self.modelServer.extraArgs.all(a, !a.matches('{_RESERVED_ARGUMENT}'))",
        "leave out host, port, uds, grpc-port, api-key, ssl-*, root-path, middleware and config: where the server "
        "listens and whom it answers is not the run's to decide",
    ),
    Rule(
        "spec.storage.endpointURL",
        lambda s: s.storage.endpoint_url is None or _stores_in_s3(s),
        "!has(self.storage.endpointURL) || (has(self.storage.uri) && self.storage.uri.startsWith('s3://'))",
        "is for S3 only; give spec.storage.uri as s3://bucket/prefix, or leave it out",
    ),
    Rule(
        "spec.storage.credentialsSecretRef",
        lambda s: s.storage.credentials_secret_ref is None or _stores_in_s3(s),
        "!has(self.storage.credentialsSecretRef) || (has(self.storage.uri) && self.storage.uri.startsWith('s3://'))",
        "is for S3 only; give spec.storage.uri as s3://bucket/prefix, or leave it out",
    ),
)


def warning_of(spec: Spec) -> str:
    """Return a warning about settings that are allowed but seldom meant; empty if there are none."""
    if not asks_for_gpu(spec.model_server.resources) or asks_for_gpu(spec.stages.train.resources):
        return ""
    return (
        "Warning: spec.modelServer.resources ask for a GPU and spec.stages.train.resources do not: "
        "on a cluster students are then trained on a CPU."
    )
