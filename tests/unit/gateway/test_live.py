"""What is counted of live traffic: requests, errors and outcomes of each target, for as long as its table is in use."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web

from distillery_gateway import attempts
from distillery_gateway.desired import Desired, Target
from distillery_gateway.keys import digest_of
from distillery_gateway.live import Live
from tests.unit.gateway.conftest import Serve, Served, desired

BODY = {"model": "bot", "messages": [{"role": "user", "content": "a secret task"}]}
OUTCOME = {"model": "bot", "session": "s-1", "success": True}
NOTHING = {"requests": 0, "errors": 0, "outcomes": 0, "successes": 0, "slow": 0}
SLOW = {**NOTHING, "requests": 1, "slow": 1}
FAILED = {**NOTHING, "requests": 1, "errors": 1}


def split(generation: int = 2, *, weight: int = 50) -> Desired:
    old, new = Target("base", 100 - weight, student="base"), Target("new", weight, student="0123456789ab")
    return desired(generation, bot=(old, new))


def take_over(served: Served, table: Desired) -> None:
    served.vllm.adapters["new"] = "/adapters/new"
    assert served.routes.offer(table, {"base", "new"})


async def until(met: Any) -> None:
    async with asyncio.timeout(10):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def tell(served: Served, session: str, *, success: bool = True, **headers: str) -> int:
    return (await served.post({**OUTCOME, "session": session, "success": success}, "/v1/outcomes", **headers))[0]


async def test_an_outcome_counts_for_the_target_that_answers_its_session(serve: Serve):
    served = await serve()
    take_over(served, split())
    for number in range(40):
        session = f"s-{number}"
        _, answer = await served.post(BODY, X_Session_ID=session)
        status, told = await served.post(
            {**OUTCOME, "session": session, "success": answer["model"] == "new", "reward": 0.5, "task": "put it there"},
            "/v1/outcomes",
        )
        assert (status, told) == (200, {"session": session, "model": "bot", "counted": True})
    counts = served.routes.live.told()
    old, new = counts["base"], counts["0123456789ab"]
    assert old["requests"] + new["requests"] == 40
    assert (old["outcomes"], old["successes"]) == (old["requests"], 0)
    assert (new["outcomes"], new["successes"]) == (new["requests"], new["requests"])
    assert new["requests"] > 0
    assert len(served.vllm.requests) == 40, "outcomes are not forwarded"
    assert served.metrics.outcomes.labels("bot", "student-0123456789ab", "true")._value.get() == new["outcomes"]


async def test_an_outcome_that_is_told_twice_counts_once_until_the_table_changes(serve: Serve):
    served = await serve()
    for table in (split(2), split(3, weight=10)):
        take_over(served, table)
        await served.post(BODY, X_Session_ID="s-1")
        assert [await tell(served, "s-1"), await tell(served, "s-1", success=False)] == [200, 200]
        counts = served.routes.live.told().values()
        assert [sum(c[name] for c in counts) for name in ("outcomes", "successes")] == [1, 1]


def outcomes(served: Served) -> int:
    return sum(counts["outcomes"] for counts in served.routes.live.told().values())


async def test_an_outcome_of_a_session_that_was_not_answered_counts_nowhere(serve: Serve):
    served = await serve()
    take_over(served, split())
    body = {**OUTCOME, "session": "made-up"}
    assert await served.post(body, "/v1/outcomes") == (200, {"session": "made-up", "model": "bot", "counted": False})
    assert outcomes(served) == 0
    await served.post(BODY, X_Session_ID="made-up")
    assert (await served.post(body, "/v1/outcomes"))[1]["counted"]
    assert outcomes(served) == 1
    take_over(served, split(3, weight=10))
    assert not (await served.post(body, "/v1/outcomes"))[1]["counted"], "it was answered under another table"


async def test_an_outcome_of_a_session_of_another_key_counts_nowhere(serve: Serve, tmp_path: Path):
    for name in ("ann", "bob"):
        (tmp_path / name).write_text(digest_of(name))
    served = await serve(keys=tmp_path)
    take_over(served, split())
    await served.post(BODY, X_Session_ID="s-1", Authorization="Bearer ann")
    assert await tell(served, "s-1", Authorization="Bearer bob") == 200
    assert outcomes(served) == 0
    assert await tell(served, "s-1", Authorization="Bearer ann") == 200
    assert outcomes(served) == 1


async def test_an_outcome_counts_for_who_answered_where_the_newcomer_was_away(serve: Serve):
    served = await serve()
    take_over(served, split(weight=99))
    served.routes.see({"base"})
    sessions = [f"s-{number}" for number in range(10)]
    for session in sessions:
        assert (await served.post(BODY, X_Session_ID=session))[1]["model"] == "base"
    served.routes.see({"base", "new"})
    for session in sessions:
        await tell(served, session)
    assert served.routes.live.told()["base"]["outcomes"] == 10


async def test_a_session_may_be_named_by_the_field_user(serve: Serve):
    served = await serve()
    await served.post({**BODY, "user": "u-1"})
    await tell(served, "u-1")
    assert outcomes(served) == 1


async def test_sessions_are_remembered_within_bounds():
    target = Target("base")
    live = Live([target])
    for number in range(50_001):
        with live.request(target, session=f"s-{number}".encode()):
            pass
    assert live.outcome(b"s-50000", success=True) == target
    assert live.outcome(b"s-50000", success=True) is None
    assert live.outcome(b"s-0", success=True) is None, "the oldest is forgotten"


@pytest.mark.parametrize(
    ("body", "status", "code", "parameter"),
    [
        (b"{", 400, "invalid_json", None),
        ({**OUTCOME, "extra": 1}, 400, "unknown_parameter", "extra"),
        ({"session": "s", "success": True}, 400, "missing_parameter", "model"),
        ({"model": "bot", "success": True}, 400, "missing_parameter", "session"),
        ({"model": "bot", "session": "s"}, 400, "missing_parameter", "success"),
        ({**OUTCOME, "session": ""}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "session": "x" * 129}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "session": "a b"}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "session": "sessión"}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "session": 7}, 400, "invalid_parameter", "session"),
        ({**OUTCOME, "success": 1}, 400, "invalid_parameter", "success"),
        ({**OUTCOME, "reward": 1.5}, 400, "invalid_parameter", "reward"),
        ({**OUTCOME, "reward": True}, 400, "invalid_parameter", "reward"),
        (json.dumps({**OUTCOME, "reward": float("nan")}).encode(), 400, "invalid_json", None),
        ({**OUTCOME, "task": "x" * 2001}, 400, "invalid_parameter", "task"),
        ({**OUTCOME, "task": ["x"]}, 400, "invalid_parameter", "task"),
        ({**OUTCOME, "model": "other"}, 404, "model_not_found", "model"),
    ],
)  # fmt: skip
async def test_an_outcome_that_is_wrong_is_refused_with_its_field(
    serve: Serve, body: Any, status: int, code: str, parameter: str | None
):
    served = await serve()
    got, answer = await served.post(body, "/v1/outcomes")
    assert (got, answer["error"]["code"], answer["error"]["param"]) == (status, code, parameter)
    assert served.routes.live.told()["base"]["outcomes"] == 0


async def test_outcomes_need_a_key_that_may_use_the_model_and_count_against_its_limits(serve: Serve, tmp_path: Path):
    for name, more in (("ann", {"requestsPerMinute": 1}), ("bob", {"models": ["other"]})):
        (tmp_path / name).write_text(json.dumps({"sha256": digest_of(name), **more}))
    served = await serve(keys=tmp_path)
    assert await tell(served, "s-1") == 401
    assert await tell(served, "s-1", Authorization="Bearer bob") == 404
    assert await tell(served, "s-1", Authorization="Bearer ann") == 200
    assert await tell(served, "s-2", Authorization="Bearer ann") == 429


async def test_outcomes_are_posted(serve: Serve):
    served = await serve()
    async with served.session.get(f"{served.url}/v1/outcomes") as answer:
        assert answer.status == 405


async def test_what_a_client_says_of_its_session_stands_in_no_log(serve: Serve, caplog: pytest.LogCaptureFixture):
    served = await serve()
    with caplog.at_level(logging.DEBUG, "distillery_gateway"):
        await served.post({**OUTCOME, "session": "session-of-ann", "task": "a secret task"}, "/v1/outcomes")
    assert "status=200" in caplog.text
    assert "session-of-ann" not in caplog.text
    assert "a secret task" not in caplog.text


def answers(status: int) -> Any:
    async def answer(_: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    return answer


@pytest.mark.parametrize("status", [500, 503, 404, 429, 401, 403])
async def test_what_the_server_fails_or_has_no_room_for_is_an_error(serve: Serve, status: int):
    served = await serve()
    served.vllm.answer = answers(status)
    await served.post(BODY)
    assert served.routes.live.told() == {"base": FAILED}


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_the_client_asked_wrongly_shows_nothing(serve: Serve, status: int):
    served = await serve()
    served.vllm.answer = answers(status)
    assert (await served.post(BODY))[0] == status
    assert served.routes.live.told() == {"base": NOTHING}


async def test_a_limit_of_the_newcomers_own_gateway_is_an_error(serve: Serve):
    newcomer, served = await serve(concurrency=1), await serve()
    target = Target("bot", upstream=newcomer.url, student="0123456789ab")
    assert served.routes.offer(desired(2, bot=(target,)), {"base"})
    served.vllm.answer = hang
    running = asyncio.create_task(served.post(BODY))
    await until(lambda: served.vllm.requests)
    assert (await served.post({**BODY, "user": "another"}))[0] == 429
    assert served.routes.live.told()["0123456789ab"] == FAILED
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_broken_stream_is_an_error(serve: Serve):
    served = await serve()
    served.vllm.breaks = True
    with pytest.raises(aiohttp.ClientError):
        await served.post({**BODY, "stream": True})
    await until(lambda: served.routes.live.told()["base"]["requests"])
    assert served.routes.live.told()["base"]["errors"] == 1


async def test_a_dead_server_is_an_error_and_what_the_gateway_refuses_is_not_counted(serve: Serve):
    served = await serve()
    await served.post({**BODY, "extra": 1})
    assert served.routes.live.told()["base"] == NOTHING
    await served.vllm._runner.cleanup()
    await served.post(BODY)
    assert served.routes.live.told()["base"] == {**NOTHING, "requests": 1, "errors": 1}


async def test_a_client_that_left_is_no_error(serve: Serve):
    served = await serve()
    await served.leave(BODY)
    await until(lambda: served.routes.live.told()["base"]["requests"])
    assert served.routes.live.told()["base"]["errors"] == 0


class Hanging(web.StreamResponse):
    """Sends its headers, and nothing after them."""

    async def write_eof(self, data: bytes = b"") -> None:
        assert self._payload_writer
        self._payload_writer.send_headers()
        await asyncio.sleep(60)


async def hang(_: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def send_headers(_: dict[str, Any]) -> web.StreamResponse:
    return Hanging()


def patient(seconds: float) -> Desired:
    """A table under which a request is slow after so many seconds."""
    return replace(desired(2, bot=(Target("base"),)), max_first_token_seconds=seconds)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("stays", "counted"), [(0.3, NOTHING), (1.3, SLOW)])
async def test_a_client_that_left_before_the_first_words_shows_slowness_if_it_had_patience(
    serve: Serve, stream: bool, stays: float, counted: dict[str, int]
):
    served = await serve()
    assert served.routes.offer(patient(30), {"base"})
    served.vllm.answer = send_headers if stream else hang
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(served.post({**BODY, "stream": stream}), stays)
    await until(lambda: served.metrics.cancelled._value.get())
    assert served.routes.live.told()["base"] == counted


@pytest.mark.parametrize("stream", [True, False])
async def test_a_server_that_hangs_is_counted_while_its_client_waits(serve: Serve, stream: bool):
    served = await serve()
    assert served.routes.offer(patient(0.2), {"base"})
    served.vllm.answer = send_headers if stream else hang
    waiting = asyncio.create_task(served.post({**BODY, "stream": stream}))
    await until(lambda: served.routes.live.told()["base"]["requests"])
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: served.metrics.cancelled._value.get())
    assert served.routes.live.told()["base"] == SLOW


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (500, 1)])
async def test_a_late_answer_is_slow_and_counts_once(serve: Serve, status: int, errors: int):
    async def answer(_: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.json_response({"model": "base"}, status=status)

    served = await serve()
    assert served.routes.offer(patient(0.2), {"base"})
    served.vllm.answer = answer
    await served.post(BODY)
    assert served.routes.live.told()["base"] == {**SLOW, "errors": errors}


async def test_a_table_says_when_a_request_is_slow():
    assert Desired.parse('{"generation": 1, "maxFirstTokenSeconds": 2.5}').max_first_token_seconds == 2.5
    assert Desired.parse('{"generation": 1}').max_first_token_seconds == 10


async def test_a_retry_of_the_openai_client_is_no_second_request(serve: Serve):
    served = await serve()
    served.vllm.answer = answers(503)
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=2) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="bot", messages=[{"role": "user", "content": "x"}])
    assert len(served.vllm.requests) == 3
    assert served.routes.live.told()["base"] == FAILED


async def test_the_same_request_soon_after_a_failure_is_its_retry_twice(serve: Serve):
    served = await serve()
    served.vllm.answer = answers(500)
    found = []
    for _ in range(4):
        await served.post(BODY)
        found.append(served.routes.live.told()["base"]["errors"])
    assert found == [1, 1, 1, 2]
    await served.post(BODY, X_Session_ID="another")
    await served.post({**BODY, "temperature": 1})
    assert served.routes.live.told()["base"] == {**NOTHING, "requests": 4, "errors": 4}


async def test_the_same_request_is_no_retry_after_an_answer_or_much_later(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    served = await serve()
    for _ in range(3):
        await served.post(BODY)
    assert served.routes.live.told()["base"]["requests"] == 3
    served.vllm.answer = answers(500)
    await served.post(BODY)
    monkeypatch.setattr(attempts, "_RETRY_SECONDS", 0.0)
    await served.post(BODY)
    assert served.routes.live.told()["base"] == {**NOTHING, "requests": 5, "errors": 2}


FORMATS = [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
    {"response_format": {"type": "json_object"}},
    {"tool_choice": "required", "tools": []},
    {"tool_choice": {"type": "function", "function": {"name": "x"}}, "tools": []},
]


@pytest.mark.parametrize("demanded", FORMATS)
async def test_a_format_that_the_model_can_not_write_is_no_error_and_is_not_retried(
    serve: Serve, demanded: dict[str, Any]
):
    """vLLM ends a request whose grammar refuses all tokens that the model has, with a 500."""
    served = await serve()
    served.vllm.answer = answers(500)
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=2) as client:
        with pytest.raises(openai.UnprocessableEntityError, match="format") as raised:
            await client.post("/chat/completions", body={**BODY, **demanded}, cast_to=object)
    assert raised.value.code == "format_not_generated"
    assert len(served.vllm.requests) == 1
    assert served.routes.live.told()["base"] == NOTHING


@pytest.mark.parametrize(("status", "more"), [(503, FORMATS[0]), (500, {"response_format": {"type": "text"}})])
async def test_other_failures_of_requests_with_a_format_are_errors(serve: Serve, status: int, more: dict[str, Any]):
    served = await serve()
    served.vllm.answer = answers(status)
    assert (await served.post({**BODY, **more}))[0] == 503
    assert served.routes.live.told()["base"] == FAILED


async def test_a_format_that_fails_behind_the_newcomers_gateway_is_no_error(serve: Serve):
    newcomer, served = await serve(), await serve()
    target = Target("bot", upstream=newcomer.url, student="0123456789ab")
    assert served.routes.offer(desired(2, bot=(target,)), {"base"})
    served.vllm.answer = answers(500)
    assert (await served.post({**BODY, **FORMATS[0]}))[0] == 422
    assert served.routes.live.told()["0123456789ab"] == NOTHING


@pytest.mark.parametrize(
    ("events", "more", "counted"),
    [
        ([b'data: {"error": {"message": "Internal server error", "code": 500}}\n\n'], {}, FAILED),
        ([b'data: {"er', b'ror": {"message": "Internal server error", "code": 500}}\n\n'], {}, FAILED),
        ([b"d", b"a", b"ta", b': {"error', b'": 1}\n\n'], {}, FAILED),
        ([b'data: {"error": {"message": "Internal server error", "code": 500}}\n\n'], FORMATS[0], NOTHING),
        ([b'data: {"choices": [{"delta": {"content": "data: {\\"error\\": 1}"}}]}\n\n'], {}, {**FAILED, "errors": 0}),
    ],
)
async def test_a_stream_that_tells_of_a_failure_is_an_error(
    serve: Serve, events: list[bytes], more: dict[str, Any], counted: dict[str, int]
):
    served = await serve()
    served.vllm.chunks = [b"data: {}\n\n", *events, b"data: [DONE]\n\n"]
    served.vllm.pause = 0.02
    async with served.session.post(
        f"{served.url}/v1/chat/completions", json={**BODY, **more, "stream": True}
    ) as answer:
        assert (answer.status, await answer.read()) == (200, b"".join(served.vllm.chunks))
    await until(lambda: served.metrics.requests.labels("bot", "base", "", "200")._value.get())
    assert served.routes.live.told()["base"] == counted


async def test_metrics_tell_merged_students_apart_which_share_a_name(serve: Serve):
    served = await serve()
    assert served.routes.offer(desired(2, bot=(Target("base", student="0123456789ab"),)), {"base"})
    assert (await served.post(BODY, X_Session_ID="s-1"))[0] == 200
    assert await tell(served, "s-1") == 200
    student = "student-0123456789ab"
    await until(lambda: served.metrics.requests.labels("bot", student, "", "200")._value.get())
    assert served.metrics.outcomes.labels("bot", student, "true")._value.get() == 1


async def test_what_began_under_a_table_does_not_count_for_the_next(serve: Serve):
    served = await serve()
    served.vllm.pause = 0.3
    running = asyncio.create_task(served.post({**BODY, "stream": True}))
    await until(lambda: served.vllm.requests)
    take_over(served, split())
    assert served.routes.live.told() == {"base": NOTHING, "0123456789ab": NOTHING}
    with pytest.raises(ValueError, match="Expecting value"):  # a stream of events, whole
        await running
    assert served.routes.live.told() == {"base": NOTHING, "0123456789ab": NOTHING}


def shadowed(shadow: Target) -> Desired:
    table = desired(2, bot=(Target("base", student="base"),))
    return Desired(2, table.adapters, table.aliases, {"bot": shadow})


async def test_a_shadow_gets_a_copy_that_nobody_sees_and_counts_its_errors(serve: Serve):
    async def answer(body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"model": body["model"]}, status=500 if body["model"] == "new" else 200)

    served = await serve()
    served.vllm.answer = answer
    take_over(served, shadowed(Target("new", student="0123456789ab")))
    status, told = await served.post({**BODY, "stream": True, "stream_options": {"include_usage": True}})
    assert (status, told["model"]) == (200, "base")
    await until(lambda: served.routes.live.told()["0123456789ab"]["requests"])
    sent = {request["model"]: request for request in served.vllm.requests}
    asked = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    assert sent["new"] == {**asked, "model": "new", "max_completion_tokens": 8192}, (
        "as the client asked: else its first token comes at the end"
    )
    assert served.routes.live.told() == {
        "base": {**NOTHING, "requests": 1},
        "0123456789ab": {**NOTHING, "requests": 1, "errors": 1},
    }


async def test_a_shadow_behind_another_gateway_is_asked_for_the_alias_with_the_clients_key(serve: Serve):
    served = await serve()
    shadow = Target("bot", upstream=served.vllm.url, student="0123456789ab")
    assert served.routes.offer(shadowed(shadow), {"base"})
    assert (await served.post(BODY, Authorization="Bearer x"))[0] == 200
    await until(lambda: served.routes.live.told()["0123456789ab"]["requests"])
    found = {r["model"]: h.get("authorization") for r, h in zip(served.vllm.requests, served.vllm.headers, strict=True)}
    assert found == {"base": None, "bot": "Bearer x"}


def conversation(first: str, turns: int) -> dict[str, Any]:
    """An agent's request after so many turns."""
    played = [{"role": "assistant", "content": "go"}, {"role": "user", "content": "You went."}]
    opening = [{"role": "system", "content": "Be good."}, {"role": "user", "content": first}]
    return {"model": "bot", "messages": opening + played * turns}


async def test_a_conversation_stays_with_one_student_without_a_header(serve: Serve):
    served = await serve()
    take_over(served, split())
    students = set[str]()
    for number in range(20):
        first = f"task {number}"
        answered = {(await served.post(conversation(first, turns)))[1]["model"] for turns in range(6)}
        assert len(answered) == 1
        students |= answered
    assert students == {"base", "new"}


async def test_conversations_of_two_keys_are_not_one(serve: Serve, tmp_path: Path):
    names = [f"key-{number}" for number in range(20)]
    for name in names:
        (tmp_path / name).write_text(digest_of(name))
    served = await serve(keys=tmp_path)
    take_over(served, split())
    answered = [await served.post(BODY, Authorization=f"Bearer {name}") for name in names]
    assert {answer["model"] for _, answer in answered} == {"base", "new"}
