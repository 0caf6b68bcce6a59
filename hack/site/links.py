"""Links of Markdown files, found and replaced outside code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

_LINK = re.compile(r"(?P<before>\]\()(?P<target>[^()\s]+)(?P<after>(?:\s+\"[^\"]*\")?\))|(?P<code>`+[^`]+`+)")
_DEFINITION = re.compile(r"^(?P<before>\[[^\]^]+\]:\s+)(?P<target>\S+)(?P<after>.*)$")
_FENCE = re.compile(r"^\s*(?P<fence>`{3,}|~{3,})")
_ABSOLUTE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//|#)", re.IGNORECASE)


def replace_links(text: str, replace: Callable[[int, str], str]) -> str:
    """Return a Markdown text with each relative link replaced by ``replace(line number, target)``.

    Code stays as it is, and so do absolute URLs and links within the page.
    """
    return "\n".join(_replace_in_lines(text, replace))


def _replace_in_lines(text: str, replace: Callable[[int, str], str]) -> Iterator[str]:
    fence = ""
    for number, line in enumerate(text.split("\n"), 1):
        if found := _FENCE.match(line):
            if not fence:
                fence = found["fence"]
            elif found["fence"].startswith(fence):
                fence = ""
            yield line
        elif fence:
            yield line
        else:
            yield _replace_in_line(line, number, replace)


def _replace_in_line(line: str, number: int, replace: Callable[[int, str], str]) -> str:
    def substitute(found: re.Match[str]) -> str:
        groups = found.groupdict()
        target = groups["target"]
        if target is None or _ABSOLUTE.match(target):
            return found[0]
        return groups["before"] + replace(number, target) + groups["after"]

    return _LINK.sub(substitute, _DEFINITION.sub(substitute, line))
