"""What is kept of users' episodes, and how failures among them start a round."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from distillery.api.base import Part


def _usable(expression: str) -> str:
    """The expression, if it compiles and does not repeat what repeats: that can take for ever on a line of text."""
    try:
        re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        raise PydanticCustomError(
            "regular_expression", "write a regular expression of Python: {why}", {"why": str(error)}
        ) from error
    if repeats_what_repeats(expression):
        raise PydanticCustomError(
            "regular_expression", "a repeat within a repeat, such as (a+)+, can take for ever; write it with one repeat"
        )
    return expression


def repeats_what_repeats(expression: str) -> bool:
    """Whether a group with a repeat without end in it is itself repeated without end."""
    repeats = [False]  # of the groups that are open, the outermost first
    ended: bool | None = None  # whether the group that ended just before holds a repeat
    for part in re.findall(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|.", expression, re.DOTALL):
        endless = part in ("*", "+") or (part[0] == "{" and part.endswith(",}"))
        if endless and ended:
            return True
        ended = None
        if part == "(":
            repeats.append(False)
        elif part == ")" and len(repeats) > 1:
            ended = repeats.pop()
            repeats[-1] |= ended
        elif endless:
            repeats[-1] = True
    return False


Expression = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_usable)]
"""A regular expression of Python's ``re``."""


class Feedback(Part):
    """What the gateway keeps of episodes that users play, in the run's database. Has no effect without a cluster.

    Kept are chat requests with the header ``X-Session-ID``, and what clients say of how the session ended.
    """

    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Sessions that were not heard of for so long are deleted."""

    max_sessions: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """The most sessions that are kept; the oldest go first."""

    redact: Annotated[tuple[Expression, ...], Field(max_length=32)] = ()
    """Regular expressions of Python, of up to 200 characters: what they match, line by line, is not kept, besides mail
    addresses, keys and tokens, and the numbers of cards and telephones, which never are."""


class Trigger(Part):
    """What the rounds after the first wait for."""

    failures: Annotated[int, Field(ge=1, le=100_000)]
    """Sessions of users that failed, and that no earlier round has learnt from."""
