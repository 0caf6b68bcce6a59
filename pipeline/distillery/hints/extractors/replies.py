"""The hints in a model's reply, however it is wrapped: a model that was asked for JSON writes more than that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

_MAX_BEGINNINGS = 30
"""Brackets at which JSON is looked for: a reply of nothing but brackets must not take a minute."""

_THOUGHTS_END = "</think>"
_BRACKET = re.compile(r"[{\[]")
_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,2}[.)])\s+(\S.*)")


def hints_in(reply: str) -> list[str] | None:
    """Return the hints of a reply, or None if there is no way to find them.

    In this order: an object with a list ``hints``, whatever else it has, stands around it or follows an item (fences,
    text, a trailing comma); a bare list of texts; lines that are all items of one list (a sentence may come before).
    """
    text = reply.rpartition(_THOUGHTS_END)[2]
    values = [*_json_values(text), *_almost_json(text)]
    for value in values:
        if isinstance(value, dict) and (hints := _texts(value.get("hints"))):
            return hints
    for value in values:
        if hints := _texts(value):
            return hints
    return _items(text)


def _json_values(text: str) -> Iterator[Any]:
    """The JSON objects and lists in a text, each where it begins first; those inside another are left out."""
    decoder, position = json.JSONDecoder(strict=False), 0
    for _ in range(_MAX_BEGINNINGS):
        found = _BRACKET.search(text, position)
        if not found:
            return
        try:
            value, position = decoder.raw_decode(text, found.start())
            yield value
        except (ValueError, RecursionError):
            position = found.start() + 1


def _almost_json(text: str) -> Iterator[Any]:
    """The text from its first bracket to its last as YAML, which JSON with a trailing comma is."""
    for opening, closing in ("{}", "[]"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            try:
                yield yaml.safe_load(text[start : end + 1])
            except (yaml.YAMLError, RecursionError, ValueError):
                continue


def _texts(value: Any) -> list[str]:
    """A list that holds nothing but texts; else an empty one."""
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else []


def _items(text: str) -> list[str] | None:
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and lines[0].rstrip().endswith(":") and not _ITEM.fullmatch(lines[0]):
        lines = lines[1:]
    found = [_ITEM.fullmatch(line) for line in lines]
    items = [match[1] for match in found if match]
    return items if items and len(items) == len(found) else None
