"""The CustomResourceDefinition, generated from the resource's Pydantic types and its rules.

python -m distillery_operator.crd.generate    prints it; ``make crds`` writes the files, ``make check`` finds drift
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distillery.core.api import GROUP, KIND, RESERVED, VERSION, DistillationRun
from distillery.core.api.learned import ARGUMENTS, GROWING, MUTABLE, MUTABLE_ARGUMENTS
from distillery.core.api.rules import RULES
from distillery_operator import __version__
from distillery_operator.crd.status_schema import STATUS

PLURAL = "distillationruns"

_COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Round", "string", ".status.roundProgress", 0),
    ("Stage", "string", ".status.stage", 0),
    ("Progress", "string", ".status.progress.text", 0),
    ("Baseline", "string", ".status.scores.baseline", 0),
    ("Candidate", "string", ".status.scores.candidate", 0),
    ("Serving", "string", ".status.serving.student", 0),
    ("URL", "string", ".status.serving.url", 1),
    ("Message", "string", ".status.message", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)

_SCALE = {
    "specReplicasPath": ".spec.serving.replicas",
    "statusReplicasPath": ".status.serving.replicas",
    "labelSelectorPath": ".status.serving.selector",
}

_NAME_RULES = [
    {
        "rule": "size(self.metadata.name) <= 40",
        "message": "metadata.name may have at most 40 characters, which leaves room for the names derived from it",
    },
    {
        "rule": " && ".join(f"!self.metadata.name.endsWith('{suffix}')" for suffix in RESERVED),
        "message": f"metadata.name may not end in {' or '.join(RESERVED)}: what belongs to another run is named so",
    },
    {
        "rule": "!self.metadata.name.contains('.')",
        "message": "metadata.name may not have dots: Services and labels take the name, and allow none",
    },
]


def crd() -> dict[str, Any]:
    """Return the definition as a manifest."""
    schema = DistillationRun.model_json_schema(by_alias=True)
    spec = _Structural(schema["$defs"]).convert(schema["$defs"]["Spec"])
    spec["x-kubernetes-validations"] = _cross_field_rules()
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}, "scale": _SCALE},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}
            for name, kind, path, priority in _COLUMNS
        ],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": (DistillationRun.__doc__ or "").strip(),
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": spec,
                    "status": STATUS,
                },
                "x-kubernetes-validations": [*_NAME_RULES, *_immutability_rules(spec)],
            }
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}", "labels": {"app.kubernetes.io/version": __version__}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["drun"],
                "categories": ["all", "distillery"],
            },
            "versions": [version],
        },
    }


def _cross_field_rules() -> list[dict[str, Any]]:
    return [
        {"rule": rule.cel, "message": f"{rule.path}: {rule.fix}", "fieldPath": rule.path.removeprefix("spec")}
        for rule in RULES
    ]


def _immutability_rules(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one rule for each field that decides what is learned, so that the message can name it.

    They hold at the root of the resource, where they see how far the run is.
    """
    rules: list[dict[str, Any]] = []
    for path, same in _list_fixed_fields(spec, "", ()):
        made_first = path.startswith(_MADE_FIRST)
        since = "exists" if made_first else "has started a stage other than prepare"
        message = f"spec.{path} can't change once the run {since}: undo the change, or make a run of another name"
        if path == ARGUMENTS:
            message += "; arguments for parallelism, memory and batching can change, written as --name=value"
        rule = same if made_first else f"{_NOT_BEGUN} || {same}"
        rules.append({"rule": rule, "message": message, "fieldPath": f".spec.{path}"})
    for path in GROWING:
        grows = f"{_NOT_BEGUN} || self.spec.{path} >= oldSelf.spec.{path}"
        message = f"spec.{path} can only grow once the run has started a stage other than prepare"
        rules.append({"rule": grows, "message": message, "fieldPath": f".spec.{path}"})
    size = "quantity({0}.spec.storage.volumeClaim.size)"
    grows = f"{size.format('self')}.compareTo({size.format('oldSelf')}) >= 0"
    message = "spec.storage.volumeClaim.size can only grow, as volumes do"
    return [*rules, {"rule": grows, "message": message, "fieldPath": ".spec.storage.volumeClaim.size"}]


_MADE_FIRST = ("database", "storage.volumeClaim.")
"""The fields by which the operator makes something before any stage starts."""

# On an update the API server takes the status from the resource that it has.
_NOT_BEGUN = (
    "(!has(self.status) || (!has(self.status.rounds) || size(self.status.rounds) == 0)"
    " && (!has(self.status.stages) || self.status.stages.all(s, s.name == 'prepare')))"
)


def _list_fixed_fields(schema: Mapping[str, Any], path: str, optional: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the fields that can't change, each with its rule in CEL; of a field with mutable parts, its other parts.

    Args:
        schema: of the part at ``path``.
        path: of the part, in the specification.
        optional: the parts on the way there that may be absent.
    """
    parts: Mapping[str, Mapping[str, Any]] = schema["properties"]
    for name, part in parts.items():
        field = f"{path}.{name}" if path else name
        absent = name not in schema.get("required", ()) and "default" not in part
        may_lack = (*optional, field) if absent else optional
        if field in MUTABLE or field in GROWING:
            continue
        if field == ARGUMENTS:
            yield field, _same(field, may_lack, f".filter(a, !a.matches('{_MUTABLE_ARGUMENT}'))")
        elif not _holds_mutable(field):
            yield field, _same(field, may_lack) if _is_known(part) else _same_but_for_siblings(path, parts, optional)
        else:
            yield from _list_fixed_fields(part, field, may_lack)


def _holds_mutable(field: str) -> bool:
    return any(path.startswith(f"{field}.") for path in (*MUTABLE, *GROWING))


_MUTABLE_ARGUMENT = f"^({'|'.join(MUTABLE_ARGUMENTS)})(=.*)?$"


def _same(field: str, optional: Sequence[str], view: str = "") -> str:
    """Return in CEL that a field did not change; ``optional`` are it and the parts above it that may be absent."""
    equal = f"self.spec.{field}{view} == oldSelf.spec.{field}{view}"
    if not optional:
        return equal
    here, before = (" && ".join(f"has({side}.spec.{part})" for part in optional) for side in ("self", "oldSelf"))
    return f"({here}) == ({before}) && (!({here}) || {equal})"


def _is_known(part: Mapping[str, Any]) -> bool:
    """Return whether CEL can name a field: not one of any JSON value, or that maps to such."""
    values = part.get("additionalProperties") or part.get("items")
    return "x-kubernetes-preserve-unknown-fields" not in part and (values is None or _is_known(values))


def _same_but_for_siblings(path: str, parts: Mapping[str, Any], optional: tuple[str, ...]) -> str:
    """Return in CEL that a field did not change that CEL can't name: the part that has it is equal as a whole.

    A change of it that comes with one of a sibling that may change passes; the database notices it when the next stage
    starts.
    """
    fields = [f"{path}.{name}" for name in parts]
    siblings = [field for field in fields if field in MUTABLE or _holds_mutable(field)]
    unchanged = " && ".join(f"({_same(sibling, (*optional, sibling))})" for sibling in siblings)
    return f"!({unchanged}) || ({_same(path, optional)})"


_KEPT = (
    "type",
    "description",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "minimum",
    "maximum",
)
"""The keywords that mean the same in JSON Schema and in a structural schema."""


class _Structural:
    """The conversion of JSON Schema, as Pydantic writes it, to the structural schema that the API server takes."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def convert(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return a schema without references, alternatives and keywords that the API server does not know."""
        schema = self._resolve(schema)
        result = _convert_keywords(schema)
        if "items" in schema:
            result["items"] = self.convert(schema["items"])
        match result.get("type"):
            case "object" if "properties" in schema:
                result |= self._convert_properties(schema)
            case "object":
                result |= {"additionalProperties": self._values(schema), **_rule_for_keys(schema)}
            case "number":
                result |= _rule_for_fractions(result)
            case None:  # any JSON value; the API server drops nulls that are not allowed
                result |= {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}
            case _:
                pass
        return result

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a schema with the definition that it refers to, or the one value of an optional field, in place."""
        if "$ref" in schema:
            target = self._definitions[schema["$ref"].rpartition("/")[2]]
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        if "anyOf" not in schema:
            return schema
        # an optional field: absent is its other value
        (given,) = [option for option in schema["anyOf"] if option != {"type": "null"}]
        return self._resolve({**given, **{key: value for key, value in schema.items() if key != "anyOf"}})

    def _convert_properties(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {
            "properties": {name: self.convert(part) for name, part in schema["properties"].items()}
        }
        if schema.get("required"):
            result["required"] = schema["required"]
        if schema.get("default") is not None:
            result["default"] = {}  # the defaults of its parts fill it
        return result

    def _values(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return the schema of the values of a mapping."""
        (values,) = schema.get("patternProperties", {"": schema.get("additionalProperties", {})}).values()
        return self.convert(values)


def _convert_keywords(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a schema that say nothing about schemas below it."""
    result: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in schema:
            result |= {limit: schema[bound], bound: True}
    if "description" in result:
        result["description"] = " ".join(result["description"].replace("``", "`").split())
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if schema.get("default") is not None:
        result["default"] = schema["default"]
    return result


def _rule_for_keys(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rule for the pattern and length of a mapping's keys, which a structural schema can't express."""
    (pattern,) = schema.get("patternProperties", {"": None})
    if not pattern:
        return {}
    length = schema["propertyNames"]["maxLength"]
    rule = f"self.all(key, key.matches({json.dumps(pattern)}) && size(key) <= {length})"
    message = f"keys must match {pattern} and have at most {length} characters"
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}


def _rule_for_fractions(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rule for fractional bounds: the API server lets whole numbers pass, such as 0 a minimum of 0.5."""
    bounds = [(">", "minimum", "exclusiveMinimum"), ("<", "maximum", "exclusiveMaximum")]
    rules = [
        f"self {sign}{'' if made.get(exclusive) else '='} {made[bound]}"
        for sign, bound, exclusive in bounds
        if bound in made and made[bound] != int(made[bound])
    ]
    return (
        {"x-kubernetes-validations": [{"rule": rule, "message": f"must be {rule[5:]}"} for rule in rules]}
        if rules
        else {}
    )


def text() -> str:
    """Return the definition as the text of a file."""
    header = "# Generated from the types in pipeline/distillery/core/api by `make crds`. Do not edit.\n"
    return header + yaml.safe_dump(crd(), sort_keys=False, width=120, allow_unicode=True)


def main() -> None:
    """Write the file, or compare it."""
    check, path = sys.argv[1] == "--check", Path(sys.argv[-1])
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(), encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text():
        sys.exit(f"{path} is not what the types say: run `make crds`")


if __name__ == "__main__":
    main()
