"""The text of a response is that of its first choice, if the response is whole."""

from __future__ import annotations

import pytest

from distillery_gateway.capture.responses import extract_text
from tests.unit.gateway.capture.test_writer import event


@pytest.mark.parametrize(
    ("body", "stream", "text"),
    [
        (b'{"choices": [{"index": 1, "message": {"content": "b"}}, {"message": {"content": "a"}}]}', False, "a"),
        (b'{"choices": [{"message": {"content": null, "tool_calls": []}}]}', False, ""),
        (b'{"error": {"message": "no"}}', False, None),
        (b'{"choices": [', False, None),
        (b"", False, None),
        (b"", True, None),
        (event("a") + b": ping\n\n" + event("b") + b"data: [DONE]\n\n", True, "ab"),
        (event("a") + b'data: {"choices": [], "usage": {}}\r\n\r\ndata:[DONE]\r\n\r\n', True, "a"),
        (event("a"), True, None),
        (event("a") + b'data: {"error": {"message": "no"}}\n\ndata: [DONE]\n\n', True, None),
        (event("a")[:-9] + b"\n\ndata: [DONE]\n\n", True, None),
        (b"\xff\xfe", False, None),
    ],
)
def test_text_of_a_response_is_extracted_when_it_is_whole(body: bytes, stream: bool, text: str | None):
    assert extract_text(body, stream=stream) == text
