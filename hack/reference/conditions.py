"""The page of conditions and events: their types, and the reasons and messages that the operator's code gives them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hack.reference.markdown import code, page, paragraph, table
from hack.reference.source import UNKNOWN, Module, assigned_before, called, functions, text_of

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
    "Failed": "A stage failed for good. A retry starts it again.",
}
"""The meaning of each condition when its status is True."""

_MAKERS = {"Problem": "Stalled", "News": "CanaryProgressing", "fail": "Failed"}
"""The calls that name a reason for a condition without naming the condition."""


class Undescribed(Exception):
    """The meanings do not match the conditions of the code."""


@dataclass(frozen=True, slots=True, order=True)
class Reason:
    """A reason that the code gives a condition."""

    condition: str
    reason: str
    status: str
    message: str


def render(types: Mapping[str, str], modules: Sequence[Module]) -> str:
    """Return the page.

    Args:
        types: The condition types by the names of their constants.
        modules: The operator's modules.

    Raises:
        Undescribed: A condition has no meaning here, or a meaning has no condition.
    """
    if different := set(types.values()) ^ set(MEANINGS):
        names = ", ".join(sorted(different))
        raise Undescribed(f"correct MEANINGS in hack/reference/conditions.py: {names}")
    reasons = sorted({reason for module in modules for reason in reasons_of(module, types, modules)})
    blocks = [
        paragraph(
            "Conditions are the interface of a run's status. `kubectl describe drun NAME` shows them, and "
            "`kubectl wait drun/NAME --for=condition=Complete` waits for one. In messages `...` stands for what "
            "differs between runs. A reason of Kubernetes itself, such as that of a container, is passed on."
        ),
        table(["condition", "True means"], [[f"[{code(name)}](#{name.lower()})", MEANINGS[name]] for name in MEANINGS]),
    ]
    for name, meaning in MEANINGS.items():
        blocks += [f"## {name}", paragraph(meaning)]
        if rows := [[code(r.reason), r.status, r.message] for r in reasons if r.condition == name]:
            blocks.append(table(["reason", "status", "message"], rows))
    blocks += [
        "## Events",
        paragraph(
            "`kubectl describe drun NAME` also shows events. Each change of a condition is an event whose reason is "
            "the condition's type, with `Not` before it when the condition became false. `Stalled` and a retry have "
            "the condition's own reason. `Canary...` ends with the reason of `CanaryProgressing`, and `Request...` "
            "with the outcome of the request. The other events are these:"
        ),
        table(["reason", "type", "message"], sorted(set(events_of(modules)))),
    ]
    return page("Conditions and events", *blocks)


def reasons_of(module: Module, types: Mapping[str, str], modules: Sequence[Module]) -> Iterator[Reason]:
    """Yield the reasons that a module gives conditions."""
    constants = {**_imported(module, modules), **module.constants}
    notes = {other.constants[name]: " ".join(note.split()) for other in modules for name, note in other.notes.items()}
    for function in functions(module.tree):
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            condition, arguments = _condition_of(node, types)
            if not condition or len(arguments) < 3:
                continue
            status, reason, message = arguments[:3]
            holds = str(status.value) if isinstance(status, ast.Constant) else "True or False"
            local = assigned_before(function, node)
            for text in sorted(set(_choices(reason, constants, local))):
                said = _nearest(message, constants, local)
                yield Reason(condition, text, holds, said if said.strip(". ") else notes.get(text, UNKNOWN))


def events_of(modules: Sequence[Module]) -> Iterator[tuple[str, str, str]]:
    """Yield the reason, the type and the message of events with a reason of their own."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and called(node) == "Event" and len(node.args) >= 2:
                reason = text_of(node.args[0], module.constants)
                if reason and reason.strip("."):
                    yield code(reason), _severity(node), text_of(node.args[1], module.constants) or UNKNOWN


def _severity(node: ast.Call) -> str:
    given = next((keyword.value for keyword in node.keywords if keyword.arg == "warning"), None)
    if given is None:
        return "Normal"
    return "Warning" if isinstance(given, ast.Constant) and given.value else "Normal or Warning"


def _condition_of(node: ast.Call, types: Mapping[str, str]) -> tuple[str, list[ast.expr]]:
    """Return the condition that a call is about, and its status, reason and message."""
    name, arguments = called(node), list(node.args)
    if name == "set" and arguments:
        first = arguments[0]
        constant = first.attr if isinstance(first, ast.Attribute) else first.id if isinstance(first, ast.Name) else ""
        return types.get(constant, ""), arguments[1:]
    if name in _MAKERS:
        return _MAKERS[name], arguments if name == "News" else [ast.Constant(value=True), *arguments]
    return "", []


def _choices(node: ast.expr, constants: Mapping[str, str], local: Mapping[str, Sequence[ast.expr]]) -> list[str]:
    """Return the texts that an expression can be; none where only the run decides."""
    if isinstance(node, ast.IfExp):
        return [text for branch in (node.body, node.orelse) for text in _choices(branch, constants, local)]
    if isinstance(node, ast.Name) and node.id in local:
        return [text for value in local[node.id] for text in _choices(value, constants, {})]
    text = text_of(node, constants)
    return [text] if text and UNKNOWN not in text else []


def _nearest(node: ast.expr, constants: Mapping[str, str], local: Mapping[str, Sequence[ast.expr]]) -> str:
    """Return the text of a message, which may be what the lines above assigned last."""
    if isinstance(node, ast.Name) and node.id in local:
        node = local[node.id][0]
    return text_of(node, constants) or UNKNOWN


def _imported(module: Module, modules: Sequence[Module]) -> dict[str, str]:
    """Return the constants that a module imports by name from the others."""
    by_name = {other.path.removesuffix(".py").replace("/", "."): other for other in modules}
    found: dict[str, str] = {}
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            other = next((m for name, m in by_name.items() if name.endswith(node.module)), None)
            names = [alias.name for alias in node.names]
            found |= {name: other.constants[name] for name in names if other and name in other.constants}
    return found
