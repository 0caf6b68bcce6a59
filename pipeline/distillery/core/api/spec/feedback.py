"""The sessions of users that are kept, and the failures among them that start a round."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError, SchemaError, SchemaValidator, core_schema

from distillery.core.api.base import SpecModel

_MAX_REPEATS = 1000  # RE2's


def _check_expression(expression: str) -> str:
    """Return the expression, if RE2 can compile it, which the gateway does.

    Pydantic's own engine, Rust's, decides: it knows RE2's syntax, and has no look-around and no back-references either.
    """
    try:
        SchemaValidator(core_schema.str_schema(pattern=expression))
    except SchemaError as error:
        why = str(error).rpartition("error: ")[2].strip()
        raise PydanticCustomError(
            "regular_expression",
            "write a regular expression in RE2's syntax, which has no look-around and no back-references: {why}",
            {"why": why},
        ) from error
    if any(int(count) > _MAX_REPEATS for count in re.findall(r"[{,](\d+)(?=[,}])", expression)):
        raise PydanticCustomError("regular_expression", "repeat at most {most} times", {"most": _MAX_REPEATS})
    return expression


Expression = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_check_expression)]
"""A regular expression in RE2's syntax."""


class Feedback(SpecModel):
    """The settings for keeping users' sessions in the run's database. Has no effect without a cluster.

    The gateway keeps chat requests with the header ``X-Session-ID``, and the outcomes that clients report.
    """

    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """retentionDays is the number of days after which a session without new requests or outcomes is deleted."""

    max_sessions: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """maxSessions is the largest number of sessions that are kept. The oldest are deleted first."""

    redact_patterns: Annotated[tuple[Expression, ...], Field(max_length=32)] = ()
    """redactPatterns are regular expressions in RE2's syntax, of up to 200 characters. Text that they match, line by
    line, is not kept. Mail addresses, keys, tokens, and the numbers of cards and telephones never are."""


class Trigger(SpecModel):
    """The condition that the rounds after the first wait for."""

    min_failures: Annotated[int, Field(ge=1, le=100_000)]
    """minFailures is the number of failed sessions of users that no earlier round has learned from."""
