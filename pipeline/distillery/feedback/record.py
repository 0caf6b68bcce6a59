"""The conversion of the records that the gateway leaves to what the database stores. Pure."""

from __future__ import annotations

from distillery.core.contracts import capture
from distillery.core.contracts.capture import CapturedOutcome
from distillery.database.sessions import RecordedRequest, SessionOutcome

_MAX_ROLE = 16
_MAX_TASK = 2_000


def read(text: str) -> RecordedRequest | SessionOutcome:
    """Parse the record that a file holds. Raises :class:`distillery.core.contracts.capture.InvalidRecord`."""
    record = capture.parse(text)
    session, alias = _storable(record.session), _storable(record.alias)
    if isinstance(record, CapturedOutcome):
        return SessionOutcome(
            session=session,
            alias=alias,
            success=record.success,
            reward=record.reward,
            task=_storable(record.task)[:_MAX_TASK],
            time=record.time,
        )
    return RecordedRequest(
        session=session,
        alias=alias,
        model=_storable(record.model),
        messages=tuple(
            {"role": _storable(message["role"])[:_MAX_ROLE], "content": _storable(message["content"])}
            for message in record.messages
        ),
        answer=_storable(record.answer),
        time=record.time,
    )


def _storable(text: str) -> str:
    """Return the text without what Postgres can't store: NUL, and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
