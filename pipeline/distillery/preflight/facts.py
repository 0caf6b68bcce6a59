"""The findings about a run before it starts, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distillery.core import plugins
from distillery.core.api import Spec
from distillery.core.api.base import SecretKey
from distillery.core.model_files import ModelNotFound, resolve
from distillery.core.secrets import SecretNotFound, read_secret


@dataclass(frozen=True, slots=True)
class EnvironmentFacts:
    """An environment that was built with the run's options.

    Attributes:
        source: where its tasks come from.
        held_out_split: its own choice; empty if it makes none.
        splits: the most tasks that each split can have, None for a number that only prepare finds out; empty where
            prepare has to find out the splits themselves.
        split_errors: by split, why its tasks can't be listed.
        reads_facts: the extractor ``rules`` can learn from its episodes.
    """

    source: str
    held_out_split: str
    splits: Mapping[str, int | None]
    split_errors: Mapping[str, str]
    reads_facts: bool


@dataclass(frozen=True, slots=True)
class PluginFacts:
    """The findings of running the plug-ins.

    Attributes:
        errors: by field, why the plug-in that it names is missing or fails.
        environment: None if it can't be built, or is not installed.
    """

    errors: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: EnvironmentFacts | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the checks look at.

    Attributes:
        installed: the names of plug-ins, by group.
        plugins: what came of running those that the run names.
        model_errors: by field, why a model's folder is of no use.
        secret_errors: by field, why a Secret's key can't be read.
        gpu: whether the machine that trains has a GPU; None where that is not known here.
    """

    installed: Mapping[str, Sequence[str]]
    plugins: PluginFacts
    model_errors: Mapping[str, str] = field(default_factory=dict[str, str])
    secret_errors: Mapping[str, str] = field(default_factory=dict[str, str])
    gpu: bool | None = None


def gather(spec: Spec, findings: PluginFacts, *, gpu: bool | None) -> Facts:
    """Collect the facts of this machine: plug-ins, folders of models, secrets. Downloads nothing."""
    return Facts(
        installed={group: plugins.list_installed(group) for group in plugins.GROUPS},
        plugins=findings,
        model_errors=_find_model_errors(spec),
        secret_errors=_find_secret_errors(spec),
        gpu=gpu,
    )


def extractor_of(spec: Spec) -> str:
    """Return the extractor's name, also if it is left out."""
    return spec.hints.extractor or ("llm" if spec.models.extractor else "rules")


def held_out_split(spec: Spec, default: str) -> str:
    """Return the split of the held-out tasks: the one that is written, else the environment's own choice."""
    return spec.environment.tasks.evaluate_split or default


@dataclass(frozen=True, slots=True)
class NamedPlugin:
    """A plug-in that a run names: its group, the field that names it, and the name."""

    group: str
    path: str
    name: str


def named_plugins(spec: Spec) -> list[NamedPlugin]:
    """Return the plug-ins that a run names."""
    return [
        NamedPlugin("environments", "spec.environment.name", spec.environment.name),
        NamedPlugin("agents", "spec.agent.name", spec.agent.name),
        NamedPlugin("extractors", "spec.hints.extractor", extractor_of(spec)),
        NamedPlugin("retrievers", "spec.hints.retriever", spec.hints.retriever),
        NamedPlugin("retrievers", "spec.hints.placebo", spec.hints.placebo),
        NamedPlugin("samplers", "spec.rounds.sampler", spec.rounds.sampler),
        NamedPlugin("trainers", "spec.training.trainer", spec.training.trainer),
    ]


def _find_model_errors(spec: Spec) -> dict[str, str]:
    """Return the folders of models that can't be used, by field."""
    models = {"spec.models.student.model": (spec.models.student.model, spec.models.student.revision)}
    if spec.models.teacher and spec.models.teacher.model:
        models["spec.models.teacher.model"] = (spec.models.teacher.model, spec.models.teacher.revision)
    errors = dict[str, str]()
    for path, (model, revision) in models.items():
        if revision is None:  # else it is downloaded by stage prepare
            try:
                resolve(model, None)
            except ModelNotFound as error:
                errors[path] = str(error)
    return errors


def _find_secret_errors(spec: Spec) -> dict[str, str]:
    """Return the keys of Secrets that can't be read, by field."""
    models = spec.models
    endpoints = {
        "spec.models.student.endpoint": models.student.endpoint,
        "spec.models.teacher.endpoint": models.teacher.endpoint if models.teacher else None,
        "spec.models.extractor.endpoint": models.extractor.endpoint if models.extractor else None,
    }
    keys: dict[str, SecretKey | None] = {
        f"{path}.apiKeySecretRef": endpoint.api_key_secret_ref for path, endpoint in endpoints.items() if endpoint
    }
    keys["spec.environment.tokenSecretRef"] = spec.environment.token_secret_ref
    errors = dict[str, str]()
    for path, key in keys.items():
        if key:
            try:
                read_secret(key.name, key.key)
            except SecretNotFound as error:
                errors[path] = str(error)
    return errors
