"""What may cross the pipe between a worker and the pool."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.environments.base import Observation
from distillery.environments.pool import wire


@pytest.mark.parametrize("score", [0, 1, 0.25, True])
def test_score_arrives_as_a_float(score: Any) -> None:
    arrived = wire.decode(wire.encode(Observation("a", score=score)))
    assert arrived == Observation("a", score=float(score))
    assert type(arrived.score) is float


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("text", b"bytes"),
        ("text", None),
        ("score", 1.5),
        ("score", -0.1),
        ("score", float("inf")),
        ("score", "1"),
        ("done", 1),
        ("success", None),
        ("valid", "yes"),
        ("admissible", ("go", 3)),
    ],
)
def test_encode_names_the_value_when_it_is_unusable(part: str, value: Any) -> None:
    parts: dict[str, Any] = {"text": "a", part: value}
    with pytest.raises(ValueError, match=part):
        wire.encode(Observation(**parts))
