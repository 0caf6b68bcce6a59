"""The page of the resource: every field of the CustomResourceDefinition."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hack.reference.markdown import code, page, paragraph, table

Schema = Mapping[str, Any]


def render(definition: Mapping[str, Any]) -> str:
    """Return the page of a CustomResourceDefinition."""
    names = definition["spec"]["names"]
    group = definition["spec"]["group"]
    blocks = [
        paragraph(
            f"{code(names['kind'])} is the resource that describes a run. `kubectl explain "
            f"{names['singular']}.spec` prints the same descriptions. Its short name is "
            f"{code(names['shortNames'][0])}."
        )
    ]
    for version in definition["spec"]["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        parts = _Parts()
        blocks.append(f"The API version is {code(group + '/' + version['name'])}.")
        blocks.append("\n\n".join(parts.render("spec", schema["properties"]["spec"])))
        blocks.append("\n\n".join(parts.render("status", schema["properties"]["status"])))
        blocks.append("## Rules between fields")
        blocks.append("The API server rejects a run that breaks one of these rules.")
        changes = [rule for rule in _rules(schema) if rule[0].startswith("spec")]
        names_of_runs = [rule for rule in _rules(schema) if rule not in changes]
        rules = [*names_of_runs, *_rules(schema["properties"]["spec"])]
        blocks.append(table(["field", "rule"], [[code(field), rule] for field, rule in rules]))
        blocks.append("## Changes of fields")
        blocks.append("The API server rejects some changes of a run:")
        blocks.extend(_group_by_rule(changes))
        blocks.append("## Columns of `kubectl get`")
        columns = version.get("additionalPrinterColumns", [])
        rows = [[column["name"], code(column["jsonPath"]), _wide(column)] for column in columns]
        blocks.append(table(["column", "field", "shown"], rows))
    return page(f"{names['kind']}", *blocks)


def _wide(column: Mapping[str, Any]) -> str:
    return "with `--output wide`" if column.get("priority") else "always"


def _rules(schema: Schema) -> list[tuple[str, str]]:
    """Return the field and the message of each rule. A message begins with the field or its rule has the path."""
    found: list[tuple[str, str]] = []
    for rule in schema.get("x-kubernetes-validations", []):
        message = rule["message"]
        first, _, rest = message.partition(" ")
        if "." in first:
            found.append((first.removesuffix(":"), rest))
        else:
            found.append((rule.get("fieldPath", "").removeprefix("."), message))
    return found


def _group_by_rule(rules: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the fields of each rule, for most rules hold for many fields."""
    fields: dict[str, list[str]] = {}
    for field, rule in rules:
        fields.setdefault(rule, []).append(field)
    for rule, named in fields.items():
        yield paragraph(f"**A field that {rule.replace('; ', ', and ')}:**")
        yield paragraph(f"{', '.join(map(code, named))}.")


class _Parts:
    """Sections of objects. An object whose fields were listed before gets a link to them."""

    def __init__(self) -> None:
        self._listed: dict[str, str] = {}

    def render(self, path: str, schema: Schema) -> Iterator[str]:
        yield f"{'##' if '.' not in path else '###'} {code(path)}"
        if description := schema.get("description"):
            yield paragraph(description)
        properties: Mapping[str, Schema] = schema["properties"]
        required = schema.get("required", ())
        below = [(f"{path}.{name}", *_object_in(part)) for name, part in properties.items()]
        nested = {child: (suffix, part) for child, suffix, part in below if part}
        self._listed |= {_fields(part): f"{child}{suffix}" for child, suffix, part in reversed(below) if part} | {
            fields: listed for fields, listed in self._listed.items()
        }
        yield table(
            ["field", "type", "default", "description"],
            [self._row(path, name, part, name in required) for name, part in properties.items()],
        )
        for child, (suffix, part) in nested.items():
            if self._listed[_fields(part)] == f"{child}{suffix}":
                yield from self.render(f"{child}{suffix}", part)

    def _row(self, path: str, name: str, part: Schema, required: bool) -> list[str]:
        default = "required" if required else code(json.dumps(part["default"])) if part.get("default") else ""
        if part.get("default") in (False, 0, ""):
            default = code(json.dumps(part["default"]))
        description = [part.get("description", ""), _bounds(part)]
        suffix, nested = _object_in(part)
        if nested:
            listed = self._listed[_fields(nested)]
            words = "Fields" if listed == f"{path}.{name}{suffix}" else "The same fields as"
            description.append(f"{words}: [{listed}](#{anchor(listed)}).")
        return [code(name), _type(part), default, " ".join(text for text in description if text)]


def anchor(path: str) -> str:
    """Return the anchor of the section of a path, as GitHub and Python-Markdown make it of the heading."""
    return "".join(character for character in path.lower() if character.isalnum() or character in "-_")


def _fields(schema: Schema) -> str:
    return json.dumps(schema["properties"], sort_keys=True)


def _object_in(part: Schema) -> tuple[str, Schema | None]:
    """Return the object that a field holds, and how its path ends: ``[]`` for an item, ``.*`` for a value."""
    if part.get("properties"):
        return "", part
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        inner = part.get(key)
        if isinstance(inner, Mapping) and inner.get("properties"):
            return suffix, inner
    return "", None


def _type(part: Schema) -> str:
    kind = part.get("type", "any")
    match kind:
        case "array":
            return f"list of {_type(part['items'])}"
        case "object" if isinstance(part.get("additionalProperties"), Mapping):
            return f"map of {_type(part['additionalProperties'])}"
        case "string" if part.get("format") == "date-time":
            return "time"
        case _:
            return str(kind)


def _bounds(part: Schema) -> str:
    """Return the limits of a value as sentences."""
    sentences: list[str] = []
    if "enum" in part:
        sentences.append(f"One of {', '.join(code(str(value)) for value in part['enum'])}.")
    limits: list[str] = []
    if "minimum" in part:
        limits.append(f"{'more than' if part.get('exclusiveMinimum') else 'at least'} {_number(part['minimum'])}")
    if "maximum" in part:
        limits.append(f"{'less than' if part.get('exclusiveMaximum') else 'at most'} {_number(part['maximum'])}")
    if limits:
        sentences.append(f"{' and '.join(limits).capitalize()}.")
    if part.get("pattern"):
        sentences.append(f"Matches {code(part['pattern'])}.")
    if part.get("maxItems"):
        sentences.append(f"At most {part['maxItems']} items.")
    return " ".join(sentences)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
