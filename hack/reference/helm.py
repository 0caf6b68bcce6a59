"""The page of the chart's values, from values.yaml, its comments, and values.schema.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from hack.reference.markdown import code, page, paragraph, table


def render(values: str, schema: Mapping[str, Any]) -> str:
    """Return the page of a chart.

    Args:
        values: The text of values.yaml.
        schema: The chart's JSON schema.
    """
    tree = yaml.compose(values)
    assert isinstance(tree, yaml.MappingNode)
    rows = list(_rows(tree, "", schema, schema.get("$defs", {}), values.split("\n")))
    return page(
        "Helm values",
        paragraph(
            "These are the values of the chart `charts/distillery`. Helm checks every value that you set against "
            "`values.schema.json`, and rejects a name that the chart does not have."
        ),
        table(["value", "type", "default", "description"], rows),
    )


def _rows(
    node: yaml.MappingNode, path: str, schema: Mapping[str, Any], shared: Mapping[str, Any], lines: Sequence[str]
) -> Iterator[list[str]]:
    for key, value in node.value:
        name = f"{path}{key.value}"
        part = _resolve(schema.get("properties", {}).get(key.value, {}), shared)
        description = part.get("description", "") or _comment(lines, key.start_mark.line)
        nested = isinstance(value, yaml.MappingNode) and not value.flow_style and bool(value.value)
        if not nested:
            default = json.dumps(_plain(value))
            yield [code(name), _type(part, value), code(default), description]
            continue
        if description:
            yield [code(name), "object", "", description]
        yield from _rows(value, f"{name}.", part, shared, lines)


def _resolve(part: Mapping[str, Any], shared: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in part:
        return part
    return {**shared.get(part["$ref"].rpartition("/")[2], {}), **part}


def _comment(lines: Sequence[str], line: int) -> str:
    """Return the comment right above a line, as one text."""
    found: list[str] = []
    while line and re.match(r"^\s*#", lines[line - 1]):
        line -= 1
        found.insert(0, lines[line].strip().lstrip("#").strip())
    return " ".join(found)


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def _type(part: Mapping[str, Any], node: yaml.Node) -> str:
    if "enum" in part:
        return "one of " + ", ".join(code(str(choice)) for choice in part["enum"])
    if "type" in part:
        return str(part["type"])
    if isinstance(node, yaml.MappingNode):
        return "object"
    return "array" if isinstance(node, yaml.SequenceNode) else "string"
