"""The plug-ins that a run names, tried as far as that is cheap: imported, built, their splits counted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillery.core import plugins
from distillery.core.api import Spec
from distillery.environments.base import Environment, EnvironmentConfigurationError
from distillery.environments.pool.worker import describe
from distillery.preflight.facts import EnvironmentFacts, PluginFacts, held_out_split, named_plugins


def inspect(spec: Spec, *, trainer: bool) -> PluginFacts:
    """Import the plug-ins and build the environment, in an empty folder. Whatever they raise is an error of a field.

    Args:
        spec: the run's.
        trainer: import the trainer too, which loads torch.
    """
    errors, loaded = dict[str, str](), dict[str, Any]()
    for named in named_plugins(spec):
        if named.name in plugins.list_installed(named.group) and (trainer or named.group != "trainers"):
            try:
                loaded[named.group] = plugins.load(named.group, named.name)
            except (Exception, SystemExit) as error:
                errors[named.path] = f"can't be loaded: {describe(error)}"
    if "environments" not in loaded:
        return PluginFacts(errors)
    with tempfile.TemporaryDirectory(prefix="distillery-preflight-") as folder:
        try:
            environment: Environment = loaded["environments"](spec.environment.plugin_options, Path(folder))
            return PluginFacts(errors, _describe(environment, spec))
        except EnvironmentConfigurationError as error:
            errors["spec.environment.options"] = str(error)
        except (Exception, SystemExit) as error:
            errors["spec.environment.name"] = f"can't be built: {describe(error)}"
    return PluginFacts(errors)


def _describe(environment: Environment, spec: Spec) -> EnvironmentFacts:
    """Return the facts about an environment."""
    splits, split_errors = environment.splits(), dict[str, str]()
    if not splits and type(environment).prepare is Environment.prepare:
        needed = ["train", held_out_split(spec, environment.held_out_split)]
        splits, split_errors = _count(environment, [split for split in needed if split])
    return EnvironmentFacts(
        source=environment.source,
        held_out_split=environment.held_out_split,
        splits=splits,
        split_errors=split_errors,
        reads_facts=type(environment).read is not Environment.read,
    )


def _count(environment: Environment, splits: list[str]) -> tuple[Mapping[str, int | None], Mapping[str, str]]:
    """Return the number of tasks by split, and why those of others can't be listed."""
    counts, errors = dict[str, int | None](), dict[str, str]()
    for split in splits:
        try:
            counts[split] = len(environment.catalog(split))
        except EnvironmentConfigurationError as error:
            errors[split] = str(error)
        except (Exception, SystemExit) as error:
            errors[split] = f"the environment can't list its tasks: {describe(error)}"
    return counts, errors
