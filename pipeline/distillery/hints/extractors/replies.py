"""The hints in a model's reply, however it is wrapped: a model that was asked for JSON writes more than that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

_MAX_BEGINNINGS = 30
"""The brackets at which JSON is tried: a reply of nothing but brackets must not take a minute."""

_THOUGHTS_END = "</think>"
_BRACKET = re.compile(r"[{\[]")
_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,2}[.)])\s+(\S.*)")


def find_hints(reply: str) -> list[str] | None:
    """Return the hints of a reply, or None if there is no way to find them.

    In this order: an object with a list ``hints``, whatever else it has, stands around it or follows an item (fences,
    text, a trailing comma); a bare list of texts; lines that are all items of one list (a sentence may come before).
    """
    text = reply.rpartition(_THOUGHTS_END)[2]
    values = [*_find_json_values(text), *_read_as_yaml(text)]
    for value in values:
        if isinstance(value, dict) and (hints := _require_texts(value.get("hints"))):
            return hints
    for value in values:
        if hints := _require_texts(value):
            return hints
    return _read_list(text)


def _find_json_values(text: str) -> Iterator[Any]:
    """Yield the JSON objects and lists of a text, each where it begins first, without those inside another."""
    decoder, position = json.JSONDecoder(strict=False), 0
    for _ in range(_MAX_BEGINNINGS):
        match = _BRACKET.search(text, position)
        if not match:
            return
        try:
            value, position = decoder.raw_decode(text, match.start())
            yield value
        except (ValueError, RecursionError):
            position = match.start() + 1


def _read_as_yaml(text: str) -> Iterator[Any]:
    """Yield the text from its first bracket to its last as YAML, which JSON with a trailing comma is."""
    for left, right in ("{}", "[]"):
        start, end = text.find(left), text.rfind(right)
        if 0 <= start < end:
            try:
                yield yaml.safe_load(text[start : end + 1])
            except (yaml.YAMLError, RecursionError, ValueError):
                continue


def _require_texts(value: Any) -> list[str]:
    """Return a value that is a list of texts; else an empty list."""
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else []


def _read_list(text: str) -> list[str] | None:
    """Return the items of a text that is one list; else None."""
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and lines[0].rstrip().endswith(":") and not _ITEM.fullmatch(lines[0]):
        lines = lines[1:]
    matches = [_ITEM.fullmatch(line) for line in lines]
    items = [match[1] for match in matches if match]
    return items if items and len(items) == len(matches) else None
