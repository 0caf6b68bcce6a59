"""Reading a DistillationRun from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from distillery.api.problems import InvalidRun, Problem, explain, lookup, shown
from distillery.api.rules import RULES
from distillery.api.run import DistillationRun


def load(path: Path) -> DistillationRun:
    """The run that a YAML or JSON file describes.

    Raises:
        InvalidRun: with everything that is wrong in it. A file that can't be read is one problem too.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRun([Problem(str(path), "", f"can't be read: {error}")]) from error
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise InvalidRun([Problem(str(path), "", f"is not YAML: {error}")]) from error
    if len(documents) != 1:
        raise InvalidRun([Problem(str(path), "", f"holds {len(documents)} documents; write exactly one")])
    _anchor_models(documents[0], path.resolve().parent)
    return parse(documents[0], where=str(path))


def _anchor_models(document: Any, folder: Path) -> None:
    """Make the relative folders of models absolute: they are meant from the document's place."""
    for role in ("student", "teacher"):
        model = lookup(document, f"spec.models.{role}") if isinstance(document, dict) else None
        if isinstance(model, dict) and str(model.get("model", "")).startswith(("./", "../")):
            model["model"] = str((folder / model["model"]).resolve())


def parse(document: Any, *, where: str = "") -> DistillationRun:
    """A document, as read from YAML, as a run. Raises :class:`InvalidRun`."""
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key != "status"}
    try:
        # by way of JSON: lists become tuples, and what JSON can't hold (YAML's dates) is shown as the string it was
        run = DistillationRun.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise InvalidRun(explain(error, DistillationRun), where) from error
    broken = [
        Problem(rule.path, "" if (value := lookup(document, rule.path)) is None else shown(value), rule.mend)
        for rule in RULES
        if not rule.holds(run.spec)
    ]
    if broken:
        raise InvalidRun(broken, where)
    return run


def canonical(run: DistillationRun) -> dict[str, Any]:
    """The run as a document with every default written out, in field order: what is stored and digested."""
    return run.model_dump(mode="json", by_alias=True)
