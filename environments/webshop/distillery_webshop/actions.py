"""An agent's command: ``search[words]`` or ``click[button]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

SEARCH, CLICK = "search", "click"

_ACTION = re.compile(rf"({SEARCH}|{CLICK})\s*\[(.+)\].*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Action:
    """A command.

    Attributes:
        verb: ``search`` or ``click``.
        argument: the words or the button, in lower case with single blanks.
    """

    verb: str
    argument: str


def parse_action(text: str) -> Action | None:
    """Parse the command in a text; None if there is none.

    As in the original, case doesn't matter and what follows the last bracket is ignored. Unlike there, the argument
    begins at the first bracket, so that an option with a bracket in its name can be clicked, and blanks are squeezed.
    """
    match = _ACTION.fullmatch(text.strip())
    if not match or not (argument := squeeze(match[2])):
        return None
    return Action(match[1].lower(), argument)


def squeeze(text: str) -> str:
    """Return a text in lower case with single blanks."""
    return " ".join(text.lower().split())
