"""The loading of a DistillationRun from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError

from distillery.core.api.problems import InvalidRun, Problem, explain, format_value, lookup
from distillery.core.api.rules import RULES
from distillery.core.api.run import DistillationRun


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: a key is there once, and 2e-4 is a number."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse what PyYAML would settle in silence by the last value."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ComposerError(
                    "in the mapping", node.start_mark, f"the key {key.value} is there twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return node


# YAML 1.1, which PyYAML reads, wants a point in it
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)
"""What PyYAML raises: ValueError for a date that no calendar has, RecursionError for a very deep document."""


def load(path: Path, *, changes: Sequence[str] = ()) -> DistillationRun:
    """Load the run that a YAML or JSON file describes.

    Args:
        path: the file.
        changes: fields to replace, as ``spec.rounds.maxRounds=2``. Values are YAML. They are read as if the file had
            them: a relative folder is relative to the file.

    Raises:
        InvalidRun: with everything that is wrong in it. A file that can't be read is one problem too.
    """
    try:
        with path.open(encoding="utf-8") as file:  # by its name, for the places in messages
            documents = [document for document in yaml.load_all(file, _Loader) if document is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRun([Problem(str(path), "", f"can't be read: {error}")]) from error
    except _UNREADABLE as error:
        raise InvalidRun([Problem(str(path), "", f"is not YAML: {error}")]) from error
    if len(documents) != 1:
        raise InvalidRun([Problem(str(path), "", f"holds {len(documents)} documents; write exactly one")])
    for change in changes if isinstance(documents[0], dict) else ():
        _replace_field(documents[0], change)
    folder = path.resolve().parent
    _anchor_models(documents[0], folder)
    try:
        return parse(documents[0], where=str(path))
    except InvalidRun as error:
        raise InvalidRun([*error.problems, *_folders_without_a_dot(documents[0], folder)], str(path)) from error


def _replace_field(document: Any, change: str) -> None:
    """Set a field of a document, with the mappings above it. A backslash takes a point into a name."""
    path, _, text = change.partition("=")
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise InvalidRun([Problem(path, format_value(text), f"is not YAML: {reason}")], "--set") from error
    *above, name = (part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", path))
    holder = document
    for depth, part in enumerate(above, 1):
        if isinstance(holder, dict) and holder.get(part) is None:
            holder[part] = {}
        holder = holder.get(part) if isinstance(holder, dict) else None
        if not isinstance(holder, dict):
            parent = ".".join(above[:depth])
            raise InvalidRun(
                [Problem(path, format_value(value), f"{parent} has no fields: set {parent} as a whole")], "--set"
            )
    holder[name] = value


def _folders_without_a_dot(document: Any, folder: Path) -> list[Problem]:
    """Models that look like repositories, and are folders next to the document."""
    problems = list[Problem]()
    for role in ("student", "teacher"):
        model = lookup(document, f"spec.models.{role}.model") if isinstance(document, dict) else None
        if isinstance(model, str) and not model.startswith(("/", ".")) and (folder / model).is_dir():
            problems.append(Problem(f"spec.models.{role}.model", format_value(model), f"a folder is written ./{model}"))
    return problems


def _anchor_models(document: Any, folder: Path) -> None:
    """Make the relative folders of models absolute: they are meant from the document's place."""
    for role in ("student", "teacher"):
        model = lookup(document, f"spec.models.{role}") if isinstance(document, dict) else None
        if isinstance(model, dict) and str(model.get("model", "")).startswith(("./", "../")):
            model["model"] = str((folder / model["model"]).resolve())


def parse(document: Any, *, where: str = "") -> DistillationRun:
    """Parse a document, as read from YAML, into a run. Raises :class:`InvalidRun`."""
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key != "status"}
    try:
        # by way of JSON: lists become tuples, and what JSON can't hold (YAML's dates) is shown as the string it was
        text = json.dumps(document, default=str)
    except (TypeError, ValueError, RecursionError) as error:  # a date as a key, or an anchor within itself
        raise InvalidRun([Problem("the document", "", f"can't be written as JSON: {error}")], where) from error
    try:
        run = DistillationRun.model_validate_json(text)
    except ValidationError as error:
        raise InvalidRun(explain(error, DistillationRun), where) from error
    broken = [
        Problem(rule.path, "" if (value := lookup(document, rule.path)) is None else format_value(value), rule.fix)
        for rule in RULES
        if not rule.holds(run.spec)
    ]
    if broken:
        raise InvalidRun(broken, where)
    return run


def parse_known(document: Any) -> DistillationRun:
    """Parse a document of a newer version, without the fields that this version does not know.

    Raises :class:`InvalidRun` for everything else.
    """
    readable: Any = json.loads(json.dumps(document, default=str))
    try:
        DistillationRun.model_validate_json(json.dumps(readable))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] == "extra_forbidden":
                *folders, name = detail["loc"]
                holder = readable
                for part in folders:
                    holder = holder[part]
                del holder[name]
    return parse(readable)


def without_defaults(run: DistillationRun) -> dict[str, Any]:
    """Return the run as a document without fields at their defaults, which an older version can read.

    It stands for the same run in every version, for a default that decides what is learned never changes.
    """
    return run.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def canonical(run: DistillationRun) -> dict[str, Any]:
    """Return the run as a document with every default, in field order: what is stored and digested."""
    return run.model_dump(mode="json", by_alias=True)
