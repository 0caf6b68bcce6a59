"""Requests are limited: those that name no number of tokens, that have many prompts, and whose bodies are bombs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distillery_gateway.auth.rate_limits import Limits
from distillery_gateway.errors import ApiError
from distillery_gateway.proxy.validation import conversation_start, demands_format, dump, parse, parse_object
from tests.fakes.vllm import FakeVllm
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.process import gateway

MESSAGES = [{"role": "user", "content": "go"}]
CHAT: dict[str, Any] = {"model": "bot", "messages": MESSAGES}
COMPLETION: dict[str, Any] = {"model": "bot", "prompt": "go"}
PATH = "/v1/completions"


@pytest.mark.parametrize("given", [{}, {"max_tokens": None}, {"max_completion_tokens": None}])
async def test_chat_gets_the_limit_of_tokens_when_it_names_none(serve: Serve, given: dict[str, Any]):
    served = await serve(max_tokens=512)
    assert (await served.post({**CHAT, **given}))[0] == 200
    assert served.vllm.requests[0]["max_completion_tokens"] == 512


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_chat_keeps_its_own_limit_of_tokens(serve: Serve, name: str):
    served = await serve(max_tokens=512)
    assert (await served.post({**CHAT, name: 7}))[0] == 200
    assert served.vllm.requests == [{**CHAT, name: 7, "model": "base"}]


async def test_token_limit_is_at_most_the_context(serve: Serve):
    served = await serve()
    served.routes.context = 2048
    assert (await served.post(CHAT))[0] == 200
    assert served.vllm.requests[0]["max_completion_tokens"] == 2048


async def test_gateway_limits_tokens_to_the_context_that_vllm_reports(vllm: FakeVllm, tmp_path: Path):
    vllm.context = 2048
    async with gateway(vllm, tmp_path) as process:
        assert (await process.ask())[0] == 200
    assert vllm.requests[0]["max_completion_tokens"] == 2048


@pytest.mark.parametrize(("limit", "sent"), [(512, 16), (8, 8)])
async def test_completion_gets_the_default_of_openai_when_it_names_no_limit(serve: Serve, limit: int, sent: int):
    served = await serve(max_tokens=limit)
    assert (await served.post(COMPLETION, PATH))[0] == 200
    assert served.vllm.requests[0]["max_tokens"] == sent


@pytest.mark.parametrize(
    ("prompt", "n", "status"),
    [
        ("go", 8, 200),
        ("go", 9, 400),
        (["go"] * 8, None, 200),
        (["go"] * 9, None, 400),
        (["go"] * 4, 2, 200),
        (["go"] * 4, 3, 400),
        ([1] * 900, None, 200),
        ([[1, 2]] * 9, None, 400),
        ([[1, 2]] * 8, 1, 200),
        ([], None, 400),
        (["go", 1], None, 400),
        ([["go"]], None, 400),
        ({"go": 1}, None, 400),
        (None, None, 400),
        (7, None, 400),
    ],
)
async def test_prompts_are_limited_with_choices(serve: Serve, prompt: Any, n: int | None, status: int):
    served = await serve(max_choices=8)
    got, answer = await served.post({"model": "bot", "prompt": prompt, "n": n}, PATH)
    assert got == status, answer
    assert len(served.vllm.requests) == (status == 200)


@pytest.mark.parametrize("messages", ["go", {"role": "user"}, [[]], [MESSAGES], ["go"], None, 7])
async def test_messages_are_a_list_of_objects(serve: Serve, messages: Any):
    served = await serve()
    status, answer = await served.post({"model": "bot", "messages": messages})
    assert (status, answer["error"]["param"]) == (400, "messages")
    assert served.vllm.requests == []


@pytest.mark.parametrize("piece", [b"[]", b"{}", b"1", b'{"a":[{}]}'])
async def test_body_is_refused_unparsed_when_it_has_too_many_parts(serve: Serve, piece: bytes):
    served = await serve()
    body = b'{"model": "bot", "messages": [' + b",".join([piece] * (1_900_000 // (len(piece) + 1))) + b"]}"
    status, answer = await served.post(body)
    assert (status, answer["error"]["code"]) == (413, "body_too_complex")


@pytest.mark.parametrize("number", [b"1e999", b"-1e999"])
async def test_body_is_refused_when_a_number_is_infinite(serve: Serve, number: bytes):
    served = await serve()
    status, answer = await served.post(b'{"model": "bot", "messages": [], "temperature": ' + number + b"}")
    assert (status, answer["error"]["code"]) == (400, "invalid_json")
    assert served.vllm.requests == []


def checked(body: dict[str, Any], path: str = "/v1/chat/completions", **limits: Any) -> dict[str, Any]:
    return parse(path, json.dumps(body).encode(), Limits(**limits))


def test_completion_keeps_its_own_limit_of_tokens():
    assert checked({**COMPLETION, "max_tokens": 7}, PATH)["max_tokens"] == 7


@pytest.mark.parametrize("given", [{"logprobs": True, "top_logprobs": 20}, {"logprobs": False, "top_logprobs": 0}])
def test_chat_may_ask_for_up_to_twenty_logprobs(given: dict[str, Any]):
    assert checked({**CHAT, **given}).items() >= given.items()


@pytest.mark.parametrize(("name", "value"), [("logprobs", 21), ("logprobs", -1), ("top_logprobs", 21), ("n", 0)])
def test_number_is_refused_just_beyond_its_limits(name: str, value: int):
    with pytest.raises(ApiError, match=f"{name} is a whole number from"):
        checked({**CHAT, name: value})


def test_body_is_refused_at_exactly_one_part_too_many():
    body = b'{"model": "bot", "prompt": [' + b"0," * (300_000 - 3) + b"0]%s}"
    assert parse_object(body % b"")["model"] == "bot"
    with pytest.raises(ApiError, match="at most 300000 lists, objects and members"):
        parse_object(body % b', "n": 1')


SYSTEM, FIRST, REPLY = ({"role": role, "content": role} for role in ("system", "user", "assistant"))


@pytest.mark.parametrize(
    ("messages", "start"),
    [
        ([FIRST, REPLY, FIRST], [FIRST]),
        ([SYSTEM, FIRST, REPLY, FIRST], [SYSTEM, FIRST]),
        ([REPLY, SYSTEM, FIRST], [REPLY, SYSTEM, FIRST]),
    ],
)
def test_conversation_starts_with_all_up_to_the_first_user_message(
    messages: list[dict[str, str]], start: list[dict[str, str]]
):
    assert json.loads(conversation_start({"messages": messages})) == start


@pytest.mark.parametrize("body", [{}, {"messages": []}, {"messages": [SYSTEM, REPLY]}])
def test_conversation_start_is_empty_without_a_user_message(body: dict[str, Any]):
    assert conversation_start(body) == ""


@pytest.mark.parametrize(
    ("body", "demanded"),
    [
        ({}, False),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": {}}, False),
        ({"response_format": "json"}, False),
        ({"tool_choice": "auto"}, False),
        ({"response_format": {"type": "json_object"}}, True),
        ({"tool_choice": "required"}, True),
        ({"tool_choice": {"type": "function"}}, True),
    ],
)
def test_format_is_demanded_by_a_schema_or_a_forced_tool(body: dict[str, Any], demanded: bool):
    assert demands_format(body) is demanded


def test_body_is_sent_as_it_was_read():
    assert json.loads(dump(CHAT)) == CHAT
