"""The rules that have to hold before a run starts. Pure; :data:`CHECKS` reads as the specification."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distillery.core.api import Spec
from distillery.core.api.problems import Problem, format_value, suggest_name
from distillery.evaluation.power import LOST, POWER, loss_bound, min_tasks, smallest_difference, tasks_to_show_losses
from distillery.preflight.facts import Facts, extractor_of, held_out_split, named_plugins

Check = Callable[[Spec, Facts], Iterator[Problem]]


def plugins_are_installed(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem for each named plug-in that is not installed."""
    for named in named_plugins(spec):
        installed = facts.installed[named.group]
        if named.name not in installed:
            fix = suggest_name(named.name, installed)
            problem = f"no {named.group[:-1]} of this name is installed; {fix}"
            yield Problem(named.path, format_value(named.name), problem)


def plugins_can_be_loaded(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem for each plug-in that can't be imported, and for an environment that can't be built."""
    values = {named.path: format_value(named.name) for named in named_plugins(spec)}
    values["spec.environment.options"] = format_value(spec.environment.options)
    for path, error in facts.plugins.errors.items():
        yield Problem(path, values.get(path, ""), error)


def held_out_split_is_named(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem if the split of the held-out tasks is not known."""
    environment = facts.plugins.environment
    if environment and not held_out_split(spec, environment.held_out_split):
        splits = f": {', '.join(environment.splits)}" if environment.splits else ""
        yield Problem(
            "spec.environment.tasks.evaluateSplit",
            "",
            f"is missing; {spec.environment.name} has no default: name the split of the held-out tasks{splits}",
        )


def splits_hold_the_tasks(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem for each split that does not exist or holds fewer tasks than the run needs."""
    environment, tasks = facts.plugins.environment, spec.environment.tasks
    if environment is None:
        return
    held_out = held_out_split(spec, environment.held_out_split)
    written = "" if tasks.evaluate_split is None else format_value(tasks.evaluate_split)
    fields = {"train": ("spec.environment.tasks.train", "")}
    if held_out and held_out != "train":
        fields[held_out] = ("spec.environment.tasks.evaluateSplit", written)
    for split, (path, value) in fields.items():
        if split in environment.split_errors:
            yield Problem(path, value, environment.split_errors[split])
        elif environment.splits and split not in environment.splits:
            existing = ", ".join(environment.splits)
            yield Problem(path, value, f"there is no split {split!r} of {environment.source}; there are {existing}")
    needed = {"spec.environment.tasks.train": ("train", tasks.train, 0)}
    if held_out:
        needed["spec.environment.tasks.evaluate"] = (
            (held_out, tasks.evaluate, tasks.train) if held_out == "train" else (held_out, tasks.evaluate, 0)
        )
        if tasks.confirm:
            taken = tasks.evaluate + (tasks.train if held_out == "train" else 0)
            needed["spec.environment.tasks.confirm"] = (held_out, tasks.confirm, taken)
    for path, (split, number, taken) in needed.items():
        available = environment.splits.get(split)
        if available is not None and number > (left := max(0, available - taken)):
            yield Problem(
                path,
                str(number),
                f"{environment.source} has {left} tasks {'left ' if taken else ''}in the split {split}; "
                "write at most that",
            )


def models_are_there(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem for each model folder that holds no model."""
    for path, error in facts.model_errors.items():
        yield Problem(path, "", error)


def secrets_are_there(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem for each key of an endpoint or environment that can't be read."""
    for path, error in facts.secret_errors.items():
        yield Problem(path, "", error)


def failures_can_be_mined(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem if the extractor ``rules`` would find no hints in the environment's episodes."""
    environment = facts.plugins.environment
    if extractor_of(spec) == "rules" and environment and not environment.reads_facts:
        yield Problem(
            "spec.models.extractor",
            "",
            f"is missing; {spec.environment.name} has no method `read`, so the extractor rules would find no hints: "
            "give spec.models.extractor.endpoint, or add `read` to the environment",
        )


def gate_can_promote(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem if there are too few held-out tasks for the gate to promote a student that wins them all."""
    gate, tasks = spec.promotion.gate, spec.environment.tasks
    for field, number in (("evaluate", tasks.evaluate), ("confirm", tasks.confirm)):
        unused = field == "confirm" and not number
        if spec.promotion.policy == "Auto" and not unused and number < (least := min_tasks(gate.confidence)):
            yield Problem(
                f"spec.environment.tasks.{field}",
                str(number),
                f"{number} held-out tasks can never promote a student: with {100 * gate.confidence:g} % confidence the "
                f"gate needs {least} at least; write more, or spec.promotion.policy: Never",
            )


def forgetting_can_be_judged(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem if there are too few held-out tasks to show that a student that loses none has lost so few."""
    gate, number = spec.promotion.gate, spec.environment.tasks.evaluate
    if gate.max_forgetting is not None and loss_bound(0, number, confidence=gate.confidence) >= gate.max_forgetting:
        yield Problem(
            "spec.promotion.gate.maxForgetting",
            f"{gate.max_forgetting:g}",
            f"{number} held-out tasks can't show that no more is lost, even if none is: write more of them in "
            "spec.environment.tasks.evaluate, or a larger limit",
        )


def quantization_has_a_gpu(spec: Spec, facts: Facts) -> Iterator[Problem]:
    """Yield a problem if a run trains in nf4 on a machine without a GPU."""
    if spec.training.quantization == "nf4" and facts.gpu is False:
        yield Problem(
            "spec.training.quantization", '"nf4"', "needs a GPU, and this machine has none (no nvidia-smi); write none"
        )


CHECKS: tuple[Check, ...] = (
    plugins_are_installed,
    plugins_can_be_loaded,
    held_out_split_is_named,
    splits_hold_the_tasks,
    models_are_there,
    secrets_are_there,
    failures_can_be_mined,
    gate_can_promote,
    forgetting_can_be_judged,
    quantization_has_a_gpu,
)


def check(spec: Spec, facts: Facts) -> list[Problem]:
    """Return all problems that the checks find."""
    return [problem for one in CHECKS for problem in one(spec, facts)]


def power_line(spec: Spec) -> str:
    """Return a sentence about the power of the held-out tasks; empty if the gate does not compare successes."""
    gate, number = spec.promotion.gate, spec.environment.tasks.evaluate
    if gate.metric != "success" or spec.evaluation.rollouts_per_task != 1:
        return ""
    points = smallest_difference(number, confidence=gate.confidence)
    if points is None:
        return f"power: {number} held-out tasks hardly show any difference; ask for more"
    line = (
        f"power: {number} held-out tasks can show a difference of {points} points "
        f"(with {100 * POWER:g} % probability at {100 * gate.confidence:g} % confidence, "
        f"if the student loses {100 * LOST:g} of 100 tasks that the baseline solves)"
    )
    if gate.max_forgetting is None:
        return line
    needed = tasks_to_show_losses(gate.max_forgetting, confidence=gate.confidence)
    limit = f"that it loses less than {100 * gate.max_forgetting:g}"
    return f"{line}; {limit} is hardly shown" if needed is None else f"{line}; {limit} takes {needed} of them"
