"""The writer of the pages of docs/reference/, which also compares them with what they should be."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from distillery.cli.parser import build_parser
from distillery.core.plugins import GROUPS
from distillery.core.settings import variable_of
from distillery_gateway import errors
from distillery_gateway.proxy import outcomes, validation
from distillery_operator.decide.events import TYPES
from distillery_operator.settings import Settings
from hack.chart_readme import CHART, read_values
from hack.reference import commands, conditions, environment, helm, http, metrics, plugins, resource
from hack.reference.markdown import page, paragraph, sections, table
from hack.reference.source import Module, modules

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "docs" / "reference"

_PIPELINE, _OPERATOR, _GATEWAY = "pipeline/distillery", "operator/distillery_operator", "gateway/distillery_gateway"
_ENVIRONMENTS = "environments"


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _resource() -> str:
    return resource.render(yaml.safe_load(_read("crds/distillery.dev_distillationruns.yaml")))


def _commands() -> str:
    return commands.render(build_parser())


def _helm() -> str:
    return helm.render(read_values(CHART))


def _metrics() -> str:
    alerts = yaml.safe_load(_read("charts/distillery/files/alerts.yaml"))
    return metrics.render(modules(ROOT, _OPERATOR, _GATEWAY, _PIPELINE), alerts)


def _http() -> str:
    return http.render(
        endpoints=validation._ENDPOINTS,
        outcomes=(outcomes.PATH, outcomes.ReportedOutcome.__doc__ or ""),
        errors=[name for name in vars(errors) if not name.startswith("_")],
        gateway=modules(ROOT, _GATEWAY),
        modules=modules(ROOT, _GATEWAY, _PIPELINE, _OPERATOR),
    )


def _environment() -> str:
    described = sections(Settings.__doc__ or "")["Attributes"]
    settings = {
        variable_of(field).name: (
            "" if field.default is MISSING else _format_default(field.default),
            described[field.name],
        )
        for field in fields(Settings)
    }
    sources = modules(ROOT, _PIPELINE, _OPERATOR, _GATEWAY, _ENVIRONMENTS)
    return environment.render([one for one in sources if one.path != f"{_OPERATOR}/settings.py"], settings)


def _format_default(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _conditions() -> str:
    def module(name: str) -> Module:
        path = f"{_OPERATOR}/{name}.py"
        return Module.parse(path, _read(path))

    return conditions.render(
        module("model/conditions").constants.values(),
        module("model/reasons"),
        module("decide/events"),
        {str(reason): kind for reason, kind in TYPES.items()},
    )


def _plugins() -> str:
    def module(path: str) -> Module:
        return Module.parse(path, _read(f"{_PIPELINE}/{path}"))

    installed: dict[str, dict[str, str]] = {}
    for project in (*sorted((ROOT / _ENVIRONMENTS).glob("*/pyproject.toml")), ROOT / "pipeline" / "pyproject.toml"):
        groups = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["entry-points"]
        for group, entries in groups.items():
            installed.setdefault(group, {}).update(entries)
    environments, agents, hints = (module(f"{name}/base.py") for name in ("environments", "agents", "hints"))
    trainer, messages = module("training/lora.py"), module("core/contracts/messages.py")
    return plugins.render(
        GROUPS,
        installed,
        {
            "environments": plugins.classes(environments, "Environment", "AgentSupport", "HintSupport", "Session",
                                            "Task", "Observation", "Fact", "Example", "ExampleTurn",
                                            "EnvironmentConfigurationError"),
            "agents": plugins.classes(agents, "Agent", "PromptPrefix", "Span", "Reply")
            + plugins.classes(messages, "Message", "TextPart", "ImagePart", "ToolCall", "FunctionCall"),
            "extractors": plugins.classes(hints, "Extractor", "ExtractionContext", "HintCandidate"),
            "retrievers": plugins.classes(hints, "Retriever", "Hint"),
            "samplers": plugins.classes(module("sampling/base.py"), "Sampler", "Candidates", "TaskHistory"),
            "trainers": plugins.classes(trainer, "LoraTrainer", "Folders", "Trained"),
        },
    )  # fmt: skip


PAGES: Mapping[str, tuple[str, Callable[[], str]]] = {
    "resource.md": ("every field of a `DistillationRun`, its rules and its status", _resource),
    "cli.md": ("the commands of `distillery`", _commands),
    "helm-values.md": ("the values of the chart", _helm),
    "conditions.md": ("the conditions of a run, their reasons, and events", _conditions),
    "http-api.md": ("the endpoints and errors of the gateway", _http),
    "metrics.md": ("the metrics of the operator, the gateway and stages, and alerts", _metrics),
    "environment.md": ("the environment variables that programs read", _environment),
    "plugins.md": ("the classes that a plug-in implements", _plugins),
}
"""The pages, each with its subject, in the order of the index."""


def main() -> None:
    """Write the pages, or fail where one is not what the code says."""
    texts = {name: make() for name, (_, make) in PAGES.items()}
    texts["README.md"] = _index(texts)
    if "--check" in sys.argv[1:]:
        stale = [name for name in sorted({*texts, *_read_pages()}) if _read_pages().get(name) != texts.get(name)]
        if stale:
            sys.exit(f"docs/reference is not what the code says ({', '.join(stale)}): run `make reference`")
        return
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (TARGET / name).write_text(text, encoding="utf-8")


def _index(texts: Mapping[str, str]) -> str:
    """Return the index: the title of each page, and its subject."""
    titles = {name: texts[name].splitlines()[0].removeprefix("# ") for name in PAGES}
    rows = [[f"[{titles[name]}]({name})", subject] for name, (subject, _) in PAGES.items()]
    text = "These pages are generated from the code, and `make check` fails when one is stale."
    return page("Reference", paragraph(text), table(["page", "lists"], rows))


def _read_pages() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in TARGET.glob("*.md")}


if __name__ == "__main__":
    main()
