"""The CustomResourceDefinition, generated from the resource's Pydantic types and its rules.

python -m distillery_operator.crd    prints it; ``make crds`` writes the files, ``make check`` finds drift
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from distillery.api import GROUP, KIND, MUTABLE, RESERVED, VERSION, DistillationRun, Spec
from distillery.api.promotion import Promotion
from distillery.api.rules import RULES
from distillery_operator.status_schema import STATUS

PLURAL = "distillationruns"

_COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Round", "string", ".status.roundOf", 0),
    ("Stage", "string", ".status.stage", 0),
    ("Progress", "string", ".status.progress.text", 0),
    ("Base", "string", ".status.scores.base", 0),
    ("Student", "string", ".status.scores.student", 0),
    ("Serving", "string", ".status.serving.student", 0),
    ("URL", "string", ".status.serving.url", 1),
    ("Message", "string", ".status.message", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)

_NAME_RULES = [
    {
        "rule": "size(self.metadata.name) <= 40",
        "message": "metadata.name may have at most 40 characters, which leaves room for the names derived from it",
    },
    {
        "rule": " && ".join(f"!self.metadata.name.endsWith('{suffix}')" for suffix in RESERVED),
        "message": f"metadata.name may not end in {' or '.join(RESERVED)}: what belongs to another run is named so",
    },
]


def crd() -> dict[str, Any]:
    """The definition as a manifest."""
    schema = DistillationRun.model_json_schema(by_alias=True)
    spec = _Structural(schema["$defs"]).convert(schema["$defs"]["Spec"])
    spec["x-kubernetes-validations"] = [*_cross_field_rules(), *_immutability_rules()]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
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
                "x-kubernetes-validations": _NAME_RULES,
            }
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
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
        {"rule": rule.cel, "message": f"{rule.path}: {rule.mend}", "fieldPath": rule.path.removeprefix("spec")}
        for rule in RULES
    ]


def _immutability_rules() -> list[dict[str, Any]]:
    """One rule a field, so that the message can name it."""
    fields = [field.alias or name for name, field in Spec.model_fields.items() if name != "promotion"]
    parts = [f"promotion.{field.alias or name}" for name, field in Promotion.model_fields.items()]
    rules = []
    for name in [n for n in (*fields, *parts) if n not in MUTABLE]:
        same = f"self.{name} == oldSelf.{name}"
        if name == "queueName":  # has no default, so it may be absent
            same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"
        rules.append(
            {
                "rule": same,
                "message": f"spec.{name} can't change once the run exists: make a run of another name",
                "fieldPath": f".{name}",
            }
        )
    return rules


class _Structural:
    """From JSON Schema as Pydantic writes it to the structural schema that the API server takes."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def convert(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """A schema without references, alternatives and what the API server does not know."""
        if "$ref" in schema:
            target = self._definitions[schema["$ref"].rpartition("/")[2]]
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        if "anyOf" in schema:  # an optional field: absent is its other value
            (given,) = [option for option in schema["anyOf"] if option != {"type": "null"}]
            schema = {**given, **{key: value for key, value in schema.items() if key != "anyOf"}}
            return self.convert(schema)
        kept = ("type", "description", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems")
        made: dict[str, Any] = {
            key: schema[key] for key in (*kept, "maxProperties", "minimum", "maximum") if key in schema
        }
        for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if bound in schema:
                made |= {limit: schema[bound], bound: True}
        if "description" in made:
            made["description"] = " ".join(made["description"].replace("``", "`").split())
        if "const" in schema:
            made["enum"] = [schema["const"]]
        if schema.get("default") is not None:
            made["default"] = schema["default"]
        if "items" in schema:
            made["items"] = self.convert(schema["items"])
        match made.get("type"):
            case "object" if "properties" in schema:
                self._add_properties(made, schema)
            case "object":
                made["additionalProperties"] = self._values(schema)
            case None:  # any JSON value; the API server drops nulls that are not allowed
                made |= {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}
            case _:
                pass
        return made

    def _add_properties(self, made: dict[str, Any], schema: Mapping[str, Any]) -> None:
        made["properties"] = {name: self.convert(part) for name, part in schema["properties"].items()}
        if schema.get("required"):
            made["required"] = schema["required"]
        if "default" in made:
            made["default"] = {}  # the defaults of its parts fill it

    def _values(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Of a mapping. Patterns of its keys are left to the operator, for the API server has no place for them."""
        (values,) = schema.get("patternProperties", {"": schema.get("additionalProperties", {})}).values()
        return self.convert(values)


def text() -> str:
    """The definition as a file."""
    header = "# Generated from the types in pipeline/distillery/api by `make crds`. Do not edit.\n"
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
