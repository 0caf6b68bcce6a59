"""The problems of a document, for a person to act on: the field's path, its value, and the fix."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a document.

    Attributes:
        path: the field, such as ``spec.rollout.concurrency``.
        value: the field's value, shortened; empty if it has none.
        fix: a value or a change that would be accepted.
        unknown: this version knows no such field; another version may.
    """

    path: str
    value: str
    fix: str
    unknown: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.value + ': ' if self.value else ''}{self.fix}"


class InvalidRun(Exception):
    """The document is no valid DistillationRun. Nothing was started."""

    complaint = "is not a valid DistillationRun"

    def __init__(self, problems: Sequence[Problem], where: str = "") -> None:
        self.problems = tuple(problems)
        self.where = where
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{where or 'the document'} {self.complaint}:\n{lines}")

    @property
    def is_newer(self) -> bool:
        """True if a newer version may accept the document: its only problems are fields unknown to this one."""
        return all(problem.unknown for problem in self.problems)


class CannotRun(InvalidRun):
    """The document is valid, and names what is not here. Nothing was started."""

    complaint = "can't run here"


def format_value(value: Any) -> str:
    """Format a value as JSON on one line, cut to 80 characters."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def explain(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return Pydantic's error as problems. ``model``, the validated type, gives near names of unknown fields."""
    details = error.errors(include_url=False)
    places = [detail["loc"] for detail in details]
    # a list with a wrong entry is also reported as too short
    details = [
        d for d in details if d["type"] != "too_short" or not any(p[: len(d["loc"])] == d["loc"] != p for p in places)
    ]
    return [
        Problem(
            _path(detail["loc"]),
            "" if detail["type"] == "missing" else format_value(detail["input"]),
            _fix(detail, model),
            unknown=detail["type"] == "extra_forbidden",
        )
        for detail in details
    ]


def _path(loc: tuple[int | str, ...]) -> str:
    """Return a location as a dotted path."""
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


_CLOSE, _RELATED = 0.75, 0.55
"""How similar two names have to be, from 0 to 1: in general, and if they begin with the same letter."""

_QUANTITY_HINT = 'write a Kubernetes quantity in quotes, such as "500m", "4" or "16Gi"'

# Patterns are exact but say nothing to a person; these are what they mean.
_PATTERNS = {
    r"^https?://": "write a URL such as https://host/v1, without a query",
    r"^[0-9a-f]{40}$": "write the commit's 40 hexadecimal digits; a branch or a tag can move",
    r"^[0-9]+(\.[0-9]+)?(m": _QUANTITY_HINT,
    r"^(file:///": "write s3://bucket/prefix, or a folder as file:///absolute/path",
    r"^[a-z0-9]": "write lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
    r"^[a-z][a-z_]*$": "write lower-case letters and underscores, beginning with a letter",
    r"^[-._a-zA-Z0-9]+$": "write letters, digits, '-', '_' and '.'",
}


_FIXES = {
    "missing": "is missing; it is required",
    "literal_error": "write one of {expected}",
    "string_type": "write a string (in quotes)",
    "int_type": "write a whole number, without quotes or unit",
    "int_from_float": "write a whole number, without quotes or unit",
    "float_type": "write a number, without quotes or unit",
    "bool_type": "write true or false",
    "model_type": "write a mapping of fields",
    "model_attributes_type": "write a mapping of fields",
    "dict_type": "write a mapping of fields",
    "tuple_type": "write a list",
    "greater_than_equal": "write {ge} or more",
    "greater_than": "write more than {gt}",
    "less_than_equal": "write {le} or less",
    "less_than": "write less than {lt}",
}
"""The fixes of Pydantic's types of errors, to be completed from an error's context."""


def _fix(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """Return the fix of an error: for some types it depends on the field and its value."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return _fix_unknown_field(detail["loc"], model)
        case "string_type" if "resources" in detail["loc"]:
            return _fix_quantity(detail["input"])
        case "float_type" if _is_number(detail["input"]):
            return "YAML takes this for a text: write it with a point, as 2.0e-4 or 0.0002"
        case "string_pattern_mismatch":
            return _fix_pattern(context["pattern"])
        case kind if kind in _FIXES:
            return _FIXES[kind].format(**context)
        case _:
            return detail["msg"][0].lower() + detail["msg"][1:]


def _fix_quantity(value: Any) -> str:
    """Return the fix of a quantity that is no string: itself in quotes, if it is a number."""
    return f'write a Kubernetes quantity in quotes: "{value}"' if isinstance(value, int | float) else _QUANTITY_HINT


def _fix_pattern(pattern: str) -> str:
    """Return the meaning of a pattern that a string does not match."""
    return next((text for start, text in _PATTERNS.items() if pattern.startswith(start)), f"must match {pattern}")


def _is_number(text: Any) -> bool:
    """Return whether a text is a number to everybody but YAML, which wants a point in 2e-4."""
    try:
        float(text)
    except (ValueError, TypeError):
        return False
    return "e" in str(text).lower()


def _fix_unknown_field(loc: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Return the fix of a field that the model does not have."""
    names = _field_names(loc[:-1], model)
    return f"unknown field; {suggest_name(str(loc[-1]), names)}"


def suggest_name(name: str, names: Sequence[str]) -> str:
    """Return the fix for an unknown name: a known name that is similar to it, or else the list of all."""
    for candidate in difflib.get_close_matches(name, names, n=3, cutoff=_RELATED):
        if candidate[0] == name[:1] or difflib.SequenceMatcher(None, name, candidate).ratio() >= _CLOSE:
            return f"did you mean {candidate}?"
    return f"known here: {', '.join(names)}"


def _field_names(loc: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """Return the names of the fields at a location, as documents spell them; none if it holds no model."""
    current: Any = model
    for part in loc:
        field = next((f for f in current.model_fields.values() if f.alias == part), None)
        candidates = [] if field is None else _models_in(field.annotation)
        if not candidates:
            return []
        current = candidates[0]
    return [field.alias or name for name, field in current.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation names, such as those of ``tuple[Model, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def flatten(value: Any, path: str) -> dict[str, Any]:
    """Return a document as dotted paths with their values; lists and empty mappings are values."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    return {name: leaf for key, part in value.items() for name, leaf in flatten(part, f"{path}.{key}").items()}


def lookup(document: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path of a document, or None."""
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
