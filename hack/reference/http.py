"""The page of the HTTP API: what the gateway answers, its errors, and the ports inside a pod."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hack.reference.markdown import code, page, paragraph, sections, summary, table
from hack.reference.source import Module, find_assignments, functions, name_callee, text_of


def render(
    *,
    endpoints: Mapping[str, Iterable[str]],
    outcomes: tuple[str, str],
    errors: Iterable[str],
    gateway: Sequence[Module],
    modules: Sequence[Module],
) -> str:
    """Return the page.

    Args:
        endpoints: The parameters of each endpoint of OpenAI's API.
        outcomes: The path of outcomes, and the docstring of what a client posts there.
        errors: The names of the classes and functions that make an error of the API.
        gateway: The gateway's modules.
        modules: All modules, for the ports inside a pod.
    """
    path, outcome = outcomes
    blocks = [
        paragraph(
            "The gateway of a served student answers these requests on port 8000 of the run's Service. A run whose "
            "`apiKeysSecretRef` names a Secret expects a bearer token. Every other path gets status 404."
        ),
        "## GET /v1/models",
        "The answer lists the models that the key may use.",
    ]
    for endpoint, parameters in sorted(endpoints.items()):
        names = ", ".join(code(name) for name in sorted(parameters))
        blocks += [f"## POST {endpoint}", paragraph(f"The gateway accepts these parameters: {names}.")]
    blocks += [
        f"## POST {path}",
        paragraph(summary(outcome)),
        table(["field", "meaning"], [[code(name), text] for name, text in sections(outcome)["Attributes"].items()]),
        "## Errors",
        paragraph(
            "An error has the form of OpenAI's API: `error.code` is for programs and `error.message` for people. "
            "`...` stands for what differs between requests."
        ),
        table(["status", "code", "message"], _errors(gateway, set(errors))),
        "## Ports inside a pod",
        paragraph("These paths answer probes, Prometheus, the operator and other pods of the run."),
        table(["path", "served by", "module"], _routes(modules)),
    ]
    return page("HTTP API", *blocks)


def _errors(modules: Sequence[Module], makers: set[str]) -> list[list[str]]:
    messages: dict[tuple[str, str], list[str]] = {}
    for module in modules:
        for function in functions(module.tree):
            for node in ast.walk(function):
                if not isinstance(node, ast.Call) or name_callee(node) not in makers or len(node.args) < 3:
                    continue
                status, kind, message = node.args[:3]
                local = find_assignments(function, node)
                if isinstance(message, ast.Name) and message.id in local:
                    message = local[message.id][0]
                if isinstance(status, ast.Constant) and (name := text_of(kind, module.constants)):
                    listed = messages.setdefault((str(status.value), name), [])
                    if (text := text_of(message, module.constants)) and text not in listed:
                        listed.append(text)
    return [[status, code(name), "<br>".join(sorted(texts))] for (status, name), texts in sorted(messages.items())]


def _routes(modules: Sequence[Module]) -> Iterator[list[str]]:
    for module in modules:
        if paths := list(_served_paths(module)):
            described = summary(ast.get_docstring(module.tree) or "")
            yield [", ".join(map(code, paths)), described, code(module.path)]


def _served_paths(module: Module) -> Iterator[str]:
    """Yield the paths that a module serves by ``distillery.core.probes.serve``."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or name_callee(node) != "serve":
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        for argument in ("checks", "documents"):
            value = given.get(argument)
            for key in value.keys if isinstance(value, ast.Dict) else ():
                if path := text_of(key, module.constants):
                    yield path
        if "registry" in given:
            yield "/metrics"
