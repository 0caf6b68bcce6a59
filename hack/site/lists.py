"""The indentation of lists, from CommonMark's rule to Python-Markdown's.

CommonMark, and so the repository's own pages, indents the content of a list item by the width of its marker: two
columns after ``- ``. Python-Markdown, which Zensical renders with, wants four. Otherwise code in a list becomes a
paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_MARKER = re.compile(r"^(?P<indent> *)(?P<marker>(?:[-*+]|\d{1,3}[.)]) +)(?=\S)")
_FENCE = re.compile(r"^ *(?P<fence>`{3,}|~{3,})")
_STEP = 4


def indent_lists(text: str) -> str:
    """Return the Markdown text with the content of list items indented by four columns a level.

    A list that follows a paragraph without a blank line gets one, which Python-Markdown needs.
    """
    return "\n".join(_indent_lines(text.split("\n")))


def _indent_lines(lines: list[str]) -> Iterator[str]:
    columns: list[int] = []  # where the content of each open list item begins
    fence, blank, was_item = "", True, False
    for line in lines:
        if not line.strip():
            blank = True
            yield line
            continue
        indent = len(line) - len(line.lstrip(" "))
        opened, marker = _FENCE.match(line), _MARKER.match(line)
        if not fence and (
            blank or opened or marker or line.startswith("#")
        ):  # else a paragraph may continue at any column
            while columns and indent < columns[-1]:
                columns.pop()
        base = columns[-1] if columns else 0
        depth = len(columns)
        if fence:
            fence = "" if opened and opened["fence"].startswith(fence) else fence
        elif opened:
            fence = opened["fence"]
        elif marker and indent - base < _STEP:
            if not columns and not blank and not was_item:
                yield ""
            columns.append(indent + len(marker["marker"]))
        was_item, blank = bool(columns), False
        yield " " * (_STEP * depth + max(0, indent - base)) + line.lstrip(" ")
