"""A chat message in the form of OpenAI's chat completions API: text, other content, tool calls and their results.

A message is a dictionary, as it is in requests, in chat templates and in the database, so no edge has to convert it.
Objects were measured: a prompt of 100 messages is built in 6 microseconds from dictionaries, and in 68 from frozen
dataclasses and their conversion, where encoding it as JSON takes 46. An agent builds its whole prompt on every turn.

A message of text, which is all that the agents of this package write, is ``{"role": ..., "content": ...}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, cast, get_args

Role = Literal["system", "user", "assistant", "tool"]


class TextPart(TypedDict):
    """A part of a message's content: text."""

    type: Literal["text"]
    text: str


class ImageUrl(TypedDict):
    """The place of an image, which may be a ``data:`` URL."""

    url: str
    detail: NotRequired[str]


class ImagePart(TypedDict):
    """A part of a message's content: an image."""

    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart = TextPart | ImagePart


class FunctionCall(TypedDict):
    """The function that a tool call names; ``arguments`` is JSON as the model wrote it, which may be malformed."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call of a tool; several in one message are parallel calls."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(TypedDict):
    """A chat message as the OpenAI API has it; one of text has ``role`` and ``content`` alone."""

    role: Role
    content: str | Sequence[ContentPart] | None
    """A text, or the parts of a message with more than text. None where an assistant only calls tools."""

    reasoning_content: NotRequired[str]
    """The reasoning of an assistant before its reply, under the name that chat templates read."""

    tool_calls: NotRequired[Sequence[ToolCall]]
    """The tools that an assistant calls."""

    tool_call_id: NotRequired[str]
    """The id of the call whose result a message of the role ``tool`` holds."""


class InvalidMessage(ValueError):
    """A document that is not a chat message; the text names the field."""


def from_openai(document: object) -> Message:
    """Return a document as a message, unchanged, after a check of its form.

    Raises:
        InvalidMessage: it is not one.
    """
    message = _require(document, Mapping, "a message")
    role = message.get("role")
    if role not in get_args(Role):
        raise InvalidMessage(f"role: {role!r}: write one of {', '.join(get_args(Role))}")
    _check_content(message.get("content"), may_be_empty=role == "assistant")
    if "reasoning_content" in message:
        _require(message["reasoning_content"], str, "reasoning_content")
    for index, call in enumerate(_require(message.get("tool_calls", []), list, "tool_calls")):
        _check_tool_call(call, f"tool_calls[{index}]")
    if role == "tool" or "tool_call_id" in message:
        _require(message.get("tool_call_id"), str, "tool_call_id")
    return cast("Message", document)


def read_text(message: Message) -> str:
    """Return the text of a message's content; empty where it has none."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or () if part["type"] == "text")


def list_texts(message: Message) -> list[str]:
    """Return every text that a message shows to a model: reasoning, content, and the arguments of tool calls."""
    calls = [call["function"]["arguments"] for call in message.get("tool_calls", ())]
    reasoning = message.get("reasoning_content")
    return [*([reasoning] if reasoning is not None else []), read_text(message), *calls]


def _check_content(content: object, *, may_be_empty: bool) -> None:
    if isinstance(content, str) or (content is None and may_be_empty):
        return
    for index, document in enumerate(_require(content, list, "content")):
        field = f"content[{index}]"
        part = _require(document, Mapping, field)
        match part.get("type"):
            case "text":
                _require(part.get("text"), str, f"{field}.text")
            case "image_url":
                image = _require(part.get("image_url"), Mapping, f"{field}.image_url")
                _require(image.get("url"), str, f"{field}.image_url.url")
            case other:
                raise InvalidMessage(f"{field}.type: {other!r}: write text or image_url")


def _check_tool_call(document: object, field: str) -> None:
    call = _require(document, Mapping, field)
    _require(call.get("id"), str, f"{field}.id")
    if call.get("type") != "function":
        raise InvalidMessage(f"{field}.type: {call.get('type')!r}: write function")
    function = _require(call.get("function"), Mapping, f"{field}.function")
    _require(function.get("name"), str, f"{field}.function.name")
    _require(function.get("arguments"), str, f"{field}.function.arguments")


def _require(value: object, kind: type[Any], field: str) -> Any:
    if not isinstance(value, kind):
        raise InvalidMessage(f"{field}: {type(value).__name__}: write {_KINDS[kind]}")
    return value


_KINDS: Mapping[type[Any], str] = {Mapping: "an object", list: "a list", str: "a text"}
