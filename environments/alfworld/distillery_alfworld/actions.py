"""A tidy form of an agent's command for the engine, which never turns one meaning into another."""

from __future__ import annotations

import re

_PUT = re.compile(r"put (.+?) (?:in/on|in|on) (.+)")


def normalize_action(action: str) -> str:
    """Spell the command as the engine does: lower case, single blanks, ``move X to Y`` for ``put X in/on Y``.

    ALFWorld's grammar said ``put X in/on Y`` before 0.4, and the published prompts still do.
    """
    action = " ".join(action.lower().split())
    return _PUT.sub(r"move \1 to \2", action) if _PUT.fullmatch(action) else action
