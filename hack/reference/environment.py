"""The page of the environment variables: those that the code reads, each with a description from this module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hack.reference.markdown import code, page, paragraph, table
from hack.reference.source import Module, name_callee, text_of

_NAME = re.compile(r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$")
_READERS = ("get", "getenv", "setdefault", "pop", "variable", "read_secret")


@dataclass(frozen=True, slots=True)
class Description:
    """The purpose of a variable. The operator sets ``internal`` ones in its own pods."""

    text: str
    internal: bool = False


def _internal(text: str) -> Description:
    return Description(text, internal=True)


DESCRIPTIONS: Mapping[str, Description] = {
    "ALFWORLD_DATA": Description("The folder with ALFWorld's own games. Without it, games are generated."),
    "CUDA_VISIBLE_DEVICES": Description("The GPUs that local runs use. Empty or `-1` hides all of them."),
    "DISTILLERY_CACHE": Description("The folder for translated games, in place of one below `XDG_CACHE_HOME`."),
    "DISTILLERY_DATABASE_URL": Description("The connection string of a Postgres with pgvector, not the embedded one."),
    "DISTILLERY_DATABASE_URL_FILE": Description("A file with that connection string. It wins over the variable."),
    "DISTILLERY_HOME": Description("The folder with runs, their logs and artifacts, and the embedded database."),
    "DISTILLERY_LOG_LEVEL": Description("The operator's log level: DEBUG, INFO, WARNING or ERROR."),
    "DISTILLERY_SECRETS": Description("The folder with a file `NAME/KEY` for each key of a Secret."),
    "HF_HUB_OFFLINE": Description("Set to 1 while hints are embedded: the embedding model ships with the package."),
    "KUBERNETES_SERVICE_HOST": Description("Kubernetes sets it in pods. The operator then uses its pod's account."),
    "WEBSHOP_DATA": Description("The folder with WebShop's own products. Without it, products are generated."),
    "XDG_CACHE_HOME": Description("The folder of caches. Its default is `~/.cache`."),
    "XDG_DATA_HOME": Description("The folder with data of programs. Its default is `~/.local/share`."),
    "DISTILLERY_ADAPTERS_DIR": _internal("The folder in which the syncer puts adapters for vLLM."),
    "DISTILLERY_ADMIN_PORT": _internal("The gateway's port for probes, metrics and the operator."),
    "DISTILLERY_CAPTURE_DIR": _internal("The folder that the gateway writes sessions to and the recorder reads."),
    "DISTILLERY_DENIED_PARAMETERS": _internal("The parameters that the gateway rejects, with commas between them."),
    "DISTILLERY_ROUTING_FILE": _internal("The file with what the gateway and the syncer serve."),
    "DISTILLERY_GATEWAY": _internal("The address of the gateway's port for probes, for the syncer."),
    "DISTILLERY_HANG_SECONDS": _internal("The time without progress after which the gateway reports vLLM as hung."),
    "DISTILLERY_SERVING_HISTORY": _internal("The history of what was served, as JSON, for the Job that stores it."),
    "DISTILLERY_IDENTITY": _internal("The run that adapters must belong to, as UID-DIGEST."),
    "DISTILLERY_API_KEYS_DIR": _internal("The folder with the API keys."),
    "DISTILLERY_LIMITS": _internal("The gateway's limits, as JSON."),
    "DISTILLERY_MAX_SESSIONS": _internal("The number of sessions that the recorder keeps."),
    "DISTILLERY_PER_KEY_LIMITS": _internal("`false` where another gateway counts the requests of keys."),
    "DISTILLERY_PORT": _internal("The gateway's port for clients."),
    "DISTILLERY_RECORDER_PORT": _internal("The recorder's port."),
    "DISTILLERY_REDACT_PATTERNS": _internal("The expressions that the gateway redacts, as a JSON list."),
    "DISTILLERY_RETENTION_DAYS": _internal("The days after which the recorder deletes a session."),
    "DISTILLERY_RUN": _internal("The run, as NAMESPACE/NAME."),
    "DISTILLERY_STATUS_PORT": _internal("The port at which a stage reports its progress."),
    "DISTILLERY_STORE_URI": _internal("The place of the artifacts."),
    "DISTILLERY_STORE_ENDPOINT_URL": _internal("The address of an S3 server other than that of AWS."),
    "DISTILLERY_SYNCER_PORT": _internal("The syncer's port for probes."),
    "DISTILLERY_UPSTREAM_URL": _internal("The address of vLLM."),
}


class Undescribed(Exception):
    """A mismatch of descriptions and code: a variable has none, or a described one is no longer read."""


def render(modules: Sequence[Module], settings: Mapping[str, tuple[str, str]]) -> str:
    """Return the page.

    Args:
        modules: The sources, without those of the operator's settings.
        settings: The operator's variables, each with its default and its meaning.

    Raises:
        Undescribed: The message names the variables, and where they are read.
    """
    found: dict[str, list[str]] = {}
    for module in modules:
        for name in read_by(module):
            found.setdefault(name, []).append(module.path)
    _check(found)
    rows = {
        internal: [
            [code(name), description.text, ", ".join(code(path) for path in sorted(set(found[name])))]
            for name, description in sorted(DESCRIPTIONS.items())
            if description.internal == internal
        ]
        for internal in (False, True)
    }
    operator = [[code(name), code(value), text[:1].upper() + text[1:]] for name, (value, text) in settings.items()]
    return page(
        "Environment variables",
        "## Variables that you set",
        table(["variable", "meaning", "read in"], rows[False]),
        "## Variables of the operator",
        paragraph("The chart sets these variables, most of them from its [values](helm-values.md)."),
        table(["variable", "default", "meaning"], operator),
        "## Variables inside the pods of a run",
        paragraph("The operator sets these variables. Set them yourself only where you start such a program by hand."),
        table(["variable", "meaning", "read in"], rows[True]),
    )


def read_by(module: Module) -> Iterator[str]:
    """Yield the names of the variables that a module reads."""
    for node in ast.walk(module.tree):
        argument: ast.expr | None = None
        match node:
            case ast.Call(args=[first, *_]) if name_callee(node) in _READERS:
                argument = first
            case ast.Subscript(
                value=ast.Name(id="environment") | ast.Attribute(attr="environ"), slice=key, ctx=ast.Load()
            ):
                argument = key
            case ast.Compare(left=left, ops=[ast.In()], comparators=[ast.Attribute(attr="environ")]):
                argument = left
            case _:
                pass
        if name := _variable(argument, module.constants):
            yield name
            if isinstance(node, ast.Call) and _reads_secret(node):
                yield f"{name}_FILE"


def _reads_secret(call: ast.Call) -> bool:
    """Return whether a call reads a variable, or the file that a second variable names."""
    return name_callee(call) == "read_secret" or any(keyword.arg == "secret" for keyword in call.keywords)


def _variable(node: ast.expr | None, constants: Mapping[str, str]) -> str:
    name = text_of(node, constants) or ""
    return name if _NAME.match(name) else ""


def _check(found: Mapping[str, Sequence[str]]) -> None:
    problems = [
        *(f"{name} has no description; it is read in {paths[0]}" for name, paths in sorted(found.items())
          if name not in DESCRIPTIONS),
        *(f"{name} is described and not read anywhere" for name in sorted(DESCRIPTIONS.keys() - found.keys())),
    ]  # fmt: skip
    if problems:
        raise Undescribed("; ".join(problems) + ": correct DESCRIPTIONS in hack/reference/environment.py")
