"""Chat messages in OpenAI's form: the type, its check, and its texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distillery.core.contracts.messages import InvalidMessage, Message, from_openai, list_texts, read_text

CALL = {"id": "a", "type": "function", "function": {"name": "go", "arguments": '{"to": "desk 1"}'}}
OTHER = {"id": "b", "type": "function", "function": {"name": "look", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}

MESSAGES: dict[str, Any] = {
    "text": {"role": "user", "content": "Where am I?"},
    "parts": {"role": "user", "content": [{"type": "text", "text": "Look: "}, IMAGE, {"type": "text", "text": "desk"}]},
    "parallel tool calls": {"role": "assistant", "content": None, "tool_calls": [CALL, OTHER]},
    "reasoning": {"role": "assistant", "content": "Going.", "reasoning_content": "Desk first.", "tool_calls": [CALL]},
    "tool result": {"role": "tool", "tool_call_id": "a", "content": "You are at desk 1."},
    "a key of one server": {"role": "assistant", "content": "Yes.", "name": "bot"},
}


@pytest.mark.parametrize("document", MESSAGES.values(), ids=MESSAGES)
def test_message_survives_a_round_trip_through_json(document: dict[str, Any]):
    assert json.loads(json.dumps(from_openai(json.loads(json.dumps(document))))) == document


def test_message_of_text_serializes_to_role_and_content():
    message: Message = {"role": "user", "content": "Where am I?"}

    assert json.dumps(message) == '{"role": "user", "content": "Where am I?"}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("text", "Where am I?"),
        ("parts", "Look: desk"),
        ("parallel tool calls", ""),
        ("reasoning", "Going."),
        ("tool result", "You are at desk 1."),
    ],
)
def test_text_of_a_message_is_that_of_its_content(name: str, text: str):
    assert read_text(from_openai(MESSAGES[name])) == text


def test_texts_of_a_message_include_reasoning_and_arguments():
    assert list_texts(from_openai(MESSAGES["reasoning"])) == ["Desk first.", "Going.", '{"to": "desk 1"}']


def test_texts_of_a_message_of_text_are_its_content():
    assert list_texts({"role": "user", "content": "Where am I?"}) == ["Where am I?"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("Where am I?", "a message: str: write an object"),
        ({"role": "robot", "content": "x"}, "role: 'robot': write one of system, user, assistant, tool"),
        ({"role": "user"}, "content: NoneType: write a list"),
        ({"role": "user", "content": [{"type": "text"}]}, "content[0].text: NoneType: write a text"),
        ({"role": "user", "content": [{"type": "video"}]}, "content[0].type: 'video': write text or image_url"),
        ({"role": "tool", "content": "x"}, "tool_call_id: NoneType: write a text"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}, "tool_calls[0].type: None"),
        (
            {"role": "assistant", "content": None, "tool_calls": [{**CALL, "function": {"name": "go"}}]},
            "tool_calls[0].function.arguments: NoneType: write a text",
        ),
    ],
)
def test_document_is_refused_with_its_field_when_it_is_no_message(document: Any, problem: str):
    with pytest.raises(InvalidMessage) as refused:
        from_openai(document)
    assert str(refused.value).startswith(problem)
