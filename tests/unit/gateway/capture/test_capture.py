"""What sessions play is kept, redacted and bounded; nobody waits for it, and nothing else is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from distillery.feedback.record import read
from distillery_gateway.capture.redaction import REDACTED, Redactor
from distillery_gateway.capture.responses import words
from distillery_gateway.capture.writer import Capture, Room
from distillery_gateway.metrics import Metrics
from tests.unit.gateway.conftest import Serve, Served

MESSAGES = [{"role": "system", "content": "Be good."}, {"role": "user", "content": "I am ann@example.org, ORD-77."}]
BODY = {"model": "bot", "messages": MESSAGES}
OUTCOME = {"model": "bot", "session": "s-1", "success": False}


def event(text: str) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def counted(metrics: Metrics, result: str) -> float:
    return metrics.captured.labels(result)._value.get()


async def kept(folder: Path, number: int = 1) -> list[dict[str, Any]]:
    """So many records, in order."""
    async with asyncio.timeout(30):
        while len(found := sorted(folder.glob("*.json"))) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return [json.loads(path.read_text()) for path in found]


async def settled(served: Served) -> None:
    """Everything that was to be written is."""
    assert served.capture
    async with asyncio.timeout(30):
        while not served.capture._queue.empty():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


async def test_a_request_of_a_session_is_kept_redacted_as_the_recorder_reads_it(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    status, _ = await served.post(BODY, X_Session_ID="s-1")
    assert status == 200
    (record,) = await kept(tmp_path)
    assert record.pop("time")
    assert record == {
        "session": "s-1", "alias": "bot", "model": "base", "answer": "hi",
        "messages": [MESSAGES[0], {"role": "user", "content": f"I am {REDACTED}, {REDACTED}."}],
    }  # fmt: skip
    assert served.vllm.requests[0]["messages"] == MESSAGES, "the model gets what the user wrote"
    (path,) = tmp_path.iterdir()
    assert read(path.read_text()).session == "s-1"


async def test_without_the_header_or_without_a_folder_nothing_is_kept(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    await served.post(BODY)
    await served.post({"model": "bot", "prompt": "x"}, "/v1/completions", X_Session_ID="s-1")
    await settled(served)
    assert list(tmp_path.iterdir()) == []
    other = await serve()
    assert (await other.post(BODY, X_Session_ID="any thing"))[0] == 200


async def test_a_stream_passes_as_it_comes_and_its_words_are_kept(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    whole = event("go to ") + event("d\u00e9sk 1") + b"data: [DONE]\n\n"
    served.vllm.chunks = [whole[:9], whole[9:70], whole[70:71], whole[71:]]
    served.vllm.pause = 0.02
    headers = {"X-Session-ID": "s-1"}
    url = f"{served.url}/v1/chat/completions"
    async with served.session.post(url, json={**BODY, "stream": True}, headers=headers) as answer:
        assert await answer.read() == whole
    (record,) = await kept(tmp_path)
    assert record["answer"] == "go to d\u00e9sk 1"


async def test_a_client_that_goes_away_leaves_nothing(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    await served.leave(BODY, chunks=[event("x")] * 1000, X_Session_ID="s-1")
    async with asyncio.timeout(30):
        while not served.vllm.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await settled(served)
    assert list(tmp_path.iterdir()) == []
    assert counted(served.metrics, "unreadable") == 1


async def test_an_outcome_is_kept_with_its_task_redacted(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    body = {**OUTCOME, "reward": 0.5, "task": "mail ann@example.org"}
    assert (await served.post(body, "/v1/outcomes"))[0] == 200
    (record,) = await kept(tmp_path)
    assert record.pop("time")
    assert record == {"session": "s-1", "alias": "bot", "success": False, "reward": 0.5, "task": f"mail {REDACTED}"}
    (path,) = tmp_path.iterdir()
    assert read(path.read_text()).session == "s-1"


async def test_the_openai_client_says_both(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        await client.chat.completions.create(
            model="bot", messages=[{"role": "user", "content": "hello"}], extra_headers={"X-Session-ID": "s-1"}
        )
        await client.post("/outcomes", cast_to=object, body=OUTCOME)
    first, second = await kept(tmp_path, 2)
    assert first["messages"] == [{"role": "user", "content": "hello"}]
    assert (second["session"], second["success"]) == ("s-1", False)


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "../\u00e9", "a\\b"])
async def test_a_sessions_name_that_cant_be_kept_is_refused_by_the_headers_name(
    serve: Serve, tmp_path: Path, name: str
):
    served = await serve(capture=tmp_path)
    status, answer = await served.post(BODY, X_Session_ID=name)
    assert (status, answer["error"]["param"]) == (400, "X-Session-ID")
    assert "1 to 128 letters" in answer["error"]["message"]
    assert served.vllm.requests == []


@pytest.mark.parametrize(
    ("name", "stays"), [("ann@example.org", False), ("ORD-77", False), ("1f0c2a54-27b0-4f27-9d50-0e5d8a3f6a11", True)]
)
async def test_a_session_named_by_what_is_redacted_is_kept_by_a_digest(
    serve: Serve, tmp_path: Path, name: str, stays: bool
):
    served = await serve(capture=tmp_path)
    await served.post(BODY, X_Session_ID=name)
    await served.post({**OUTCOME, "session": name}, "/v1/outcomes")
    first, second = await kept(tmp_path, 2)
    assert first["session"] == second["session"]
    assert (first["session"] == name) == stays
    assert read(json.dumps(first)).session == first["session"]


async def test_names_of_files_are_not_made_of_what_clients_say(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    await served.post(BODY, X_Session_ID="../../etc/passwd")
    (record,) = await kept(tmp_path)
    assert record["session"] == "../../etc/passwd"
    (path,) = tmp_path.iterdir()
    assert path.stem.replace("-", "").isdigit()


async def test_what_there_is_no_room_for_is_left_out_and_counted_and_requests_go_on(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path, room=Room(record_bytes=600, files=2, folder_bytes=10_000))
    large = {**BODY, "messages": [{"role": "user", "content": "x " * 400}]}
    assert (await served.post(large, X_Session_ID="large"))[0] == 200
    assert counted(served.metrics, "too_large") == 1
    for number in range(4):
        assert (await served.post(BODY, X_Session_ID=f"s{number}"))[0] == 200
    await settled(served)
    assert [record["session"] for record in await kept(tmp_path, 2)] == ["s0", "s1"], "the newest are left out"
    assert (counted(served.metrics, "kept"), counted(served.metrics, "full")) == (2, 2)
    for path in tmp_path.iterdir():
        path.unlink()  # as the recorder does
    await asyncio.sleep(1.1)
    await served.post(BODY, X_Session_ID="s9")
    assert [record["session"] for record in await kept(tmp_path)] == ["s9"]


@pytest.mark.parametrize("room", [Room(files=2), Room(folder_bytes=200)])
async def test_what_an_earlier_gateway_left_takes_room(tmp_path: Path, room: Room):
    for number in range(2):
        (tmp_path / f"{number}.json").write_text("x" * 50)
    metrics = Metrics()
    capture = Capture(tmp_path, Redactor(), metrics, room=room)
    capture.keep_outcome(session="s", alias="bot", success=True, reward=None, task="")
    await capture._write_next()
    assert counted(metrics, "full") == 1
    assert len(list(tmp_path.iterdir())) == 2


async def test_a_folder_that_cant_be_written_fails_no_request(serve: Serve, tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    served = await serve(capture=folder)
    folder.rmdir()
    for _ in range(3):
        assert (await served.post(BODY, X_Session_ID="s"))[0] == 200
    await settled(served)
    assert counted(served.metrics, "failed") == 3


async def test_a_queue_that_is_full_holds_nobody_up(tmp_path: Path):
    metrics = Metrics()
    capture = Capture(tmp_path, Redactor(), metrics)  # and nobody writes
    for number in range(100):
        capture.keep_outcome(session=f"s{number}", alias="bot", success=True, reward=None, task="")
    assert counted(metrics, "full") == 36


async def test_what_waits_is_written_before_the_end(tmp_path: Path):
    (tmp_path / "left.part").write_text("by a gateway that was killed")
    capture = Capture(tmp_path, Redactor(), Metrics())
    for number in range(9):
        capture.keep_outcome(session=f"s{number}", alias="bot", success=True, reward=None, task="")
    writing = asyncio.create_task(capture.run())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert len(list(tmp_path.glob("*.json"))) >= 8
    assert not (tmp_path / "left.part").exists()


async def test_pictures_and_tools_are_not_kept(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,xyz"}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "secret"}}]}
    messages = [{"role": "user", "content": [{"type": "text", "text": "Look:"}, picture]}, call, {"odd": 1}]
    await served.post({"model": "bot", "messages": messages}, X_Session_ID="s")
    (record,) = await kept(tmp_path)
    assert record["messages"] == [
        {"role": "user", "content": "Look:"},
        {"role": "assistant", "content": ""},
        {"role": "", "content": ""},
    ]


@pytest.mark.parametrize(
    ("body", "stream", "found"),
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
def test_the_words_of_an_answer_are_found_or_it_is_none(body: bytes, stream: bool, found: str | None):
    assert words(body, stream=stream) == found
