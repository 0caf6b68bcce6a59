"""One request through the gateway: passed on as it is, or refused as OpenAI's API refuses."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web

from distillery.core.contracts.routing import Target
from distillery_gateway.auth.api_keys import digest_of
from tests.unit.gateway.conftest import Serve, routing_config

MESSAGES = [{"role": "user", "content": "a secret task"}]
BODY = {"model": "bot", "messages": MESSAGES}


async def test_request_names_the_model_in_place_of_the_alias(serve: Serve):
    served = await serve()
    status, answer = await served.post(BODY, X_Request_ID="r-1")
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "hi")
    assert served.vllm.requests == [{**BODY, "model": "base", "max_completion_tokens": 8192}]
    assert served.vllm.headers[0]["x-request-id"] == "r-1"


async def test_stream_arrives_byte_by_byte(serve: Serve):
    served = await serve()
    async with served.session.post(f"{served.url}/v1/chat/completions", json={**BODY, "stream": True}) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert await answer.read() == b"".join(served.vllm.chunks)


async def test_stream_begins_before_the_response_ends(serve: Serve):
    served = await serve()
    served.vllm.pause = 0.3
    async with served.session.post(f"{served.url}/v1/chat/completions", json={**BODY, "stream": True}) as answer:
        first = await answer.content.readany()
        assert first == served.vllm.chunks[0]


async def test_request_is_cancelled_when_its_client_disconnects(serve: Serve):
    served = await serve()
    await served.leave(BODY)
    for _ in range(100):
        if served.vllm.cancelled:
            break
        await asyncio.sleep(0.05)
    assert served.vllm.cancelled == 1
    assert served.metrics.cancelled._value.get() == 1


async def test_openai_client_gets_a_response(serve: Serve):
    served = await serve()
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        assert [model.id async for model in client.models.list()] == ["bot"]
        with pytest.raises(openai.NotFoundError) as raised:
            await client.chat.completions.create(model="other", messages=[{"role": "user", "content": "x"}])
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("body", "status", "code", "parameter"),
    [
        (b"{not json", 400, "invalid_json", None),
        (b"[]", 400, "invalid_json", None),
        (b"[" * 100_000, 400, "invalid_json", None),
        (b"\xff\xfe", 400, "invalid_json", None),
        ({**BODY, "logit_bias": {"3": float("nan")}}, 400, "invalid_json", None),
        ({**BODY, "temperature": float("-inf")}, 400, "invalid_json", None),
        ({"messages": MESSAGES}, 400, "missing_parameter", "model"),
        ({"model": "bot"}, 400, "missing_parameter", "messages"),
        ({**BODY, "model": ["bot"]}, 400, "missing_parameter", "model"),
        ({**BODY, "model": "nosuch"}, 404, "model_not_found", "model"),
        ({**BODY, "model": "base"}, 404, "model_not_found", "model"),
        ({**BODY, "model": "../../etc/passwd"}, 404, "model_not_found", "model"),
        ({**BODY, "guided_regex": "(a+)+$"}, 400, "unknown_parameter", "guided_regex"),
        ({**BODY, "lora_path": "/etc"}, 400, "unknown_parameter", "lora_path"),
        ({**BODY, "seed": 1}, 400, "unsupported_parameter", "seed"),
        ({**BODY, "n": 10_000}, 400, "invalid_parameter", "n"),
        ({**BODY, "n": "2"}, 400, "invalid_parameter", "n"),
        ({**BODY, "max_tokens": 10**9}, 400, "invalid_parameter", "max_tokens"),
        ({**BODY, "max_tokens": True}, 400, "invalid_parameter", "max_tokens"),
        ({**BODY, "top_logprobs": 10_000}, 400, "invalid_parameter", "top_logprobs"),
    ],
)  # fmt: skip
async def test_error_has_the_form_of_openai_when_a_request_is_wrong(
    serve: Serve, body: Any, status: int, code: str, parameter: str | None
):
    served = await serve(denied=frozenset({"seed"}))
    got, answer = await served.post(body)
    assert (got, answer["error"]["code"], answer["error"]["param"]) == (status, code, parameter)
    assert answer["error"]["message"]
    assert served.vllm.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/collective_rpc", "/reset_prefix_cache", "/metrics",
        "/health", "/v1/chat/completions/", "/v1/../v1/load_lora_adapter", "/v1/%6coad_lora_adapter",
        "//v1/load_lora_adapter", "/tokenize",
    ],
)  # fmt: skip
async def test_path_is_404_when_it_is_unknown(serve: Serve, path: str):
    served = await serve()
    status, answer = await served.post({"lora_name": "x", "lora_path": "/"}, path)
    assert (status, answer["error"]["code"]) == (404, "not_found")
    assert not served.vllm.adapters


async def test_request_is_refused_when_its_method_is_wrong(serve: Serve):
    served = await serve()
    async with served.session.get(f"{served.url}/v1/chat/completions") as answer:
        assert answer.status == 405


async def test_body_is_refused_when_it_is_too_large(serve: Serve):
    served = await serve(max_body_bytes=1000)
    assert (await served.post({**BODY, "user": "x" * 2000}))[0] == 413

    async def dribble() -> Any:
        for _ in range(100):
            yield b"x" * 100

    async with served.session.post(f"{served.url}/v1/chat/completions", data=dribble()) as answer:
        assert answer.status == 413


async def test_body_is_refused_when_it_is_too_slow(serve: Serve):
    served = await serve(body_timeout_seconds=0.2)

    async def slowly() -> Any:
        yield b"{"
        await asyncio.sleep(5)
        yield b"}"

    async with served.session.post(f"{served.url}/v1/chat/completions", data=slowly()) as answer:
        assert answer.status == 408
        assert (await answer.json())["error"]["code"] == "body_too_slow"


async def test_error_hides_the_message_of_a_failing_server(serve: Serve):
    async def fail(_: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=500, text="Traceback: /opt/secret/path.py line 3")

    served = await serve()
    served.vllm.answer = fail
    status, answer = await served.post(BODY)
    assert (status, answer["error"]["code"]) == (503, "upstream_failed")
    assert "secret" not in json.dumps(answer)


async def test_rejection_of_the_server_is_passed_on_with_the_alias(serve: Serve):
    async def refuse(body: dict[str, Any]) -> web.StreamResponse:
        message = f"{body['model']} has a context of 2048 tokens, student-1 too; a database or base64 is none"
        return web.json_response({"error": {"message": message, "code": 400, "param": "messages"}}, status=400)

    served = await serve()
    served.routes.set_loaded_models({"base", "student-1"})
    served.vllm.answer = refuse
    status, answer = await served.post(BODY)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "invalid_request", "messages")
    assert answer["error"]["message"] == "bot has a context of 2048 tokens, bot too; a database or base64 is none"


async def test_client_gets_503_when_the_server_is_dead(serve: Serve):
    served = await serve()
    await served.vllm._runner.cleanup()
    async with served.session.post(f"{served.url}/v1/chat/completions", json=BODY) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "upstream_failed")
        assert answer.headers["Retry-After"] == "1"


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "alice").write_text(digest_of("dk-alice"))
    (folder / "bob").write_text(json.dumps({"sha256": digest_of("dk-bob"), "models": ["other"]}))
    (folder / "broken").write_text("plain text")
    (folder / "..data").mkdir()
    return folder


async def test_request_is_rejected_when_its_key_is_invalid(serve: Serve, ring: Path):
    served = await serve(keys=ring)
    assert (await served.post(BODY, Authorization="Bearer dk-alice"))[0] == 200
    for wrong in ("Bearer dk-mallory", "Bearer", "Basic dk-alice", f"Bearer {digest_of('dk-alice')}"):
        status, answer = await served.post(BODY, Authorization=wrong)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert (await served.post(BODY))[0] == 401


async def test_model_does_not_exist_when_the_key_may_not_use_it(serve: Serve, ring: Path):
    served = await serve(keys=ring)
    bob = await served.post(BODY, Authorization="Bearer dk-bob")
    nobody = await served.post({**BODY, "model": "nosuch"}, Authorization="Bearer dk-alice")
    assert bob[0] == nobody[0] == 404
    assert bob[1]["error"]["message"].replace("bot", "X") == nobody[1]["error"]["message"].replace("nosuch", "X")
    async with served.session.get(f"{served.url}/v1/models", headers={"Authorization": "Bearer dk-bob"}) as answer:
        assert (await answer.json())["data"] == []


async def test_keys_limit_concurrent_requests_and_their_rate(serve: Serve, tmp_path: Path):
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "slow").write_text(json.dumps({"sha256": digest_of("slow"), "requestsPerMinute": 2}))
    (folder / "one").write_text(json.dumps({"sha256": digest_of("one"), "maxConcurrentRequests": 1}))
    served = await serve(keys=folder)
    found = [(await served.post(BODY, Authorization="Bearer slow"))[0] for _ in range(4)]
    assert found == [200, 200, 429, 429]

    served.vllm.pause = 0.5
    running = asyncio.create_task(served.post({**BODY, "stream": True}, Authorization="Bearer one"))
    await asyncio.sleep(0.3)
    async with served.session.post(
        f"{served.url}/v1/chat/completions", json=BODY, headers={"Authorization": "Bearer one"}
    ) as answer:
        assert answer.status == 429
        assert answer.headers["Retry-After"] == "1"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_log_has_no_content_of_requests(serve: Serve, ring: Path, caplog: pytest.LogCaptureFixture):
    served = await serve(keys=ring)
    with caplog.at_level(logging.DEBUG, "distillery_gateway"):
        await served.post(BODY, Authorization="Bearer dk-alice", X_Request_ID="evil\\nline")
        await served.post({**BODY, "model": "nosuch"}, Authorization="Bearer dk-alice")
    assert "key=alice alias=bot model=base status=200" in caplog.text
    assert "status=404" in caplog.text
    for secret in ("a secret task", "dk-alice", digest_of("dk-alice"), "evil"):
        assert secret not in caplog.text


async def test_request_to_another_gateway_has_the_alias(serve: Serve):
    served = await serve()
    async with aiohttp.ClientSession():
        table = routing_config(2, bot=(Target("new", upstream=served.vllm.url),))
        served.routes.try_apply(table, set())
        served.vllm.base = "bot"
        status, _ = await served.post(BODY, X_Session_ID="s", Authorization="Bearer x")
        assert status == 200
        assert served.vllm.requests[-1]["model"] == "bot"
        assert served.vllm.headers[-1]["x-session-id"] == "s"
        assert served.vllm.headers[-1]["authorization"] == "Bearer x"
