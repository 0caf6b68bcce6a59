"""The records that the gateway leaves, as Postgres can store them. Pure."""

from __future__ import annotations

from dataclasses import replace

from distillery.core.contracts import capture
from distillery.core.contracts.capture import CapturedOutcome, CapturedRequest

_MAX_ROLE = 16
_MAX_TASK = 2_000


def read(text: str) -> CapturedRequest | CapturedOutcome:
    """Parse the record that a file holds. Raises :class:`distillery.core.contracts.capture.InvalidRecord`."""
    record = capture.parse(text)
    session, alias = _storable(record.session), _storable(record.alias)
    if isinstance(record, CapturedOutcome):
        return replace(record, session=session, alias=alias, task=_storable(record.task)[:_MAX_TASK])
    messages = tuple(
        {"role": _storable(message["role"])[:_MAX_ROLE], "content": _storable(message["content"])}
        for message in record.messages
    )
    return replace(
        record,
        session=session,
        alias=alias,
        model=_storable(record.model),
        messages=messages,
        answer=_storable(record.answer),
    )


def _storable(text: str) -> str:
    """Return the text without what Postgres can't store: NUL, and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
