"""The page of conditions and events: their types, and the reasons with the meanings that the operator's code states."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hack.reference.markdown import code, page, paragraph, table
from hack.reference.source import Module

MEANINGS: Mapping[str, str] = {
    "Ready": "The run offers now what it should. [Running on Kubernetes](../kubernetes.md#when-a-run-is-ready) lists "
    "the reasons.",
    "Accepted": "The spec is valid and names only what is allowed on the cluster.",
    "DatabaseReady": "The database answers, and its schema is up to date.",
    "Stalled": "Something keeps the run from continuing. The message names it and the fix.",
    "Suspended": "The run is suspended, or its stages are paused.",
    "RequestAccepted": "The requests by annotation were accepted. [Runs under GitOps](../gitops.md) explains them.",
    "Promoted": "The last round promoted its student.",
    "Serving": "Every serving pod serves the student that is to be served.",
    "CanaryProgressing": "A canary gets a share of the traffic.",
    "Complete": "All rounds ended.",
    "Failed": "A stage failed for good, or the first spec of the run was rejected. A retry starts failed stages again.",
}
"""The meaning of each condition when its status is True."""

_STATUSES = ("True", "False", "Unknown")


class Undescribed(Exception):
    """A condition or a reason without its meaning."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A constant of an enumeration of reasons.

    Attributes:
        name: The reason as it is written in the status or in an event.
        meaning: The docstring below the constant.
    """

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Reasons:
    """An enumeration of reasons.

    Attributes:
        notes: What its docstring says after the first paragraph.
        members: Its constants, in the order of the code.
    """

    notes: str
    members: Sequence[Reason]


def render(conditions: Iterable[str], reasons: Module, events: Module, types: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        conditions: The types of conditions.
        reasons: The module with a class of reasons for each condition.
        events: The module with the class ``EventReason``.
        types: The type of each event, Normal or Warning, by its reason.

    Raises:
        Undescribed: A condition or a reason has no meaning, or a meaning has no condition.
    """
    if different := set(conditions) ^ set(MEANINGS):
        names = ", ".join(sorted(different))
        raise Undescribed(f"correct MEANINGS in hack/reference/conditions.py: {names}")
    of_conditions = enumerations(reasons)
    if different := set(of_conditions) ^ set(MEANINGS):
        names = ", ".join(sorted(different))
        raise Undescribed(f"name each class of {reasons.path} as a condition: {names}")
    blocks = [
        paragraph(
            "Conditions are the interface of a run's status. `kubectl describe drun NAME` shows them, and "
            "`kubectl wait drun/NAME --for=condition=Complete` waits for one. Programs read the status and the reason "
            "of a condition. The message is for people."
        ),
        table(["condition", "True means"], [[f"[{code(name)}](#{name.lower()})", MEANINGS[name]] for name in MEANINGS]),
    ]
    for name, meaning in MEANINGS.items():
        found = of_conditions[name]
        blocks += [f"## {name}", paragraph(meaning)]
        blocks += [paragraph(found.notes)] if found.notes else []
        blocks.append(table(["reason", "status", "meaning"], [_row(name, reason) for reason in found.members]))
    of_events = enumerations(events)["EventReason"]
    if different := {reason.name for reason in of_events.members} ^ set(types):
        names = ", ".join(sorted(different))
        raise Undescribed(f"give each reason of {events.path} a type: {names}")
    blocks += [
        "## Events",
        paragraph("`kubectl describe drun NAME` also shows the events of a run."),
        *([paragraph(of_events.notes)] if of_events.notes else []),
        table(["reason", "type", "meaning"], [[code(r.name), types[r.name], r.meaning] for r in of_events.members]),
    ]
    return page("Conditions and events", *blocks)


def enumerations(module: Module) -> dict[str, Reasons]:
    """Return the enumerations of a module by their names.

    Raises:
        Undescribed: A constant has no docstring.
    """
    found: dict[str, Reasons] = {}
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "StrEnum" for base in node.bases):
            members = Module.parse(module.path, ast.unparse(ast.Module(node.body, [])))
            if missing := sorted(set(members.constants) - set(members.notes)):
                raise Undescribed(f"{module.path}: {node.name}.{missing[0]} has no docstring")
            _, _, notes = (ast.get_docstring(node) or "").partition("\n\n")
            reasons = [
                Reason(value, " ".join(members.notes[name].split())) for name, value in members.constants.items()
            ]
            found[node.name] = Reasons(notes, reasons)
    return found


def _row(condition: str, reason: Reason) -> list[str]:
    """Return a reason's row of the table; the docstring is the status, a colon and the meaning."""
    status, _, meaning = reason.meaning.partition(": ")
    if status not in _STATUSES or not meaning:
        raise Undescribed(
            f"begin the docstring of {condition}'s reason {reason.name} with its status, such as 'True: '"
        )
    return [code(reason.name), status, meaning[0].upper() + meaning[1:]]
