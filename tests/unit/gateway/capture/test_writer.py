"""Capture writes redacted records within limits; no request waits for it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

from distillery.core.contracts.capture import CapturedOutcome
from distillery.feedback.record import read
from distillery_gateway.capture.capture_folder import CaptureLimits
from distillery_gateway.capture.redaction import REDACTED, Redactor
from distillery_gateway.capture.writer import Capture
from distillery_gateway.metrics import Metrics
from tests.unit.gateway.conftest import Serve, Served

MESSAGES = [{"role": "system", "content": "Be good."}, {"role": "user", "content": "I am ann@example.org, ORD-77."}]
BODY = {"model": "bot", "messages": MESSAGES}
OUTCOME = {"model": "bot", "session": "s-1", "success": False}


def event(text: str) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def outcome(session: str) -> CapturedOutcome:
    return CapturedOutcome(session, "bot", True, None, "", datetime.now(UTC))


def counted(metrics: Metrics, result: str) -> float:
    return metrics.captured.labels(result)._value.get()


async def read_records(folder: Path, number: int = 1) -> list[dict[str, Any]]:
    """Wait for so many records, and return them in order."""
    async with asyncio.timeout(30):
        while len(paths := sorted(folder.glob("*.json"))) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return [json.loads(path.read_text()) for path in paths]


async def until_written(served: Served) -> None:
    """Wait until the queue is written."""
    assert served.capture
    async with asyncio.timeout(30):
        while not served.capture._queue.empty():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


async def test_capture_writes_a_redacted_request_that_the_recorder_reads(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    status, _ = await served.post(BODY, X_Session_ID="s-1")
    assert status == 200
    (record,) = await read_records(tmp_path)
    assert record.pop("time")
    assert record == {
        "session": "s-1", "alias": "bot", "model": "base", "answer": "hi",
        "messages": [MESSAGES[0], {"role": "user", "content": f"I am {REDACTED}, {REDACTED}."}],
    }  # fmt: skip
    assert served.vllm.requests[0]["messages"] == MESSAGES, "the model gets what the user wrote"
    (path,) = tmp_path.iterdir()
    assert read(path.read_text()).session == "s-1"


async def test_capture_writes_nothing_without_header_or_folder(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    await served.post(BODY)
    await served.post({"model": "bot", "prompt": "x"}, "/v1/completions", X_Session_ID="s-1")
    await until_written(served)
    assert list(tmp_path.iterdir()) == []
    other = await serve()
    assert (await other.post(BODY, X_Session_ID="any thing"))[0] == 200


async def test_capture_keeps_the_text_of_a_stream(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    whole = event("go to ") + event("d\u00e9sk 1") + b"data: [DONE]\n\n"
    served.vllm.chunks = [whole[:9], whole[9:70], whole[70:71], whole[71:]]
    served.vllm.pause = 0.02
    headers = {"X-Session-ID": "s-1"}
    url = f"{served.url}/v1/chat/completions"
    async with served.session.post(url, json={**BODY, "stream": True}, headers=headers) as answer:
        assert await answer.read() == whole
    (record,) = await read_records(tmp_path)
    assert record["answer"] == "go to d\u00e9sk 1"


async def test_capture_drops_a_request_when_its_client_leaves(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    await served.leave(BODY, chunks=[event("x")] * 1000, X_Session_ID="s-1")
    async with asyncio.timeout(30):
        while not served.vllm.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await until_written(served)
    assert list(tmp_path.iterdir()) == []
    assert counted(served.metrics, "unreadable") == 1


async def test_capture_writes_an_outcome_with_its_task_redacted(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    body = {**OUTCOME, "reward": 0.5, "task": "mail ann@example.org"}
    assert (await served.post(body, "/v1/outcomes"))[0] == 200
    (record,) = await read_records(tmp_path)
    assert record.pop("time")
    assert record == {"session": "s-1", "alias": "bot", "success": False, "reward": 0.5, "task": f"mail {REDACTED}"}
    (path,) = tmp_path.iterdir()
    assert read(path.read_text()).session == "s-1"


async def test_capture_writes_requests_and_outcomes_of_the_openai_client(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        await client.chat.completions.create(
            model="bot", messages=[{"role": "user", "content": "hello"}], extra_headers={"X-Session-ID": "s-1"}
        )
        await client.post("/outcomes", cast_to=object, body=OUTCOME)
    first, second = await read_records(tmp_path, 2)
    assert first["messages"] == [{"role": "user", "content": "hello"}]
    assert (second["session"], second["success"]) == ("s-1", False)


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "../\u00e9", "a\\b"])
async def test_session_name_is_refused_with_its_header_when_it_is_invalid(serve: Serve, tmp_path: Path, name: str):
    served = await serve(capture=tmp_path)
    status, answer = await served.post(BODY, X_Session_ID=name)
    assert (status, answer["error"]["param"]) == (400, "X-Session-ID")
    assert "1 to 128 " in answer["error"]["message"]
    assert served.vllm.requests == []


@pytest.mark.parametrize(
    ("name", "stays"), [("ann@example.org", False), ("ORD-77", False), ("1f0c2a54-27b0-4f27-9d50-0e5d8a3f6a11", True)]
)
async def test_session_is_named_by_a_digest_when_its_name_is_redacted(
    serve: Serve, tmp_path: Path, name: str, stays: bool
):
    served = await serve(capture=tmp_path)
    await served.post(BODY, X_Session_ID=name)
    await served.post({**OUTCOME, "session": name}, "/v1/outcomes")
    first, second = await read_records(tmp_path, 2)
    assert first["session"] == second["session"]
    assert (first["session"] == name) == stays
    assert read(json.dumps(first)).session == first["session"]


async def test_capture_names_no_file_by_a_client_text(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    await served.post(BODY, X_Session_ID="../../etc/passwd")
    (record,) = await read_records(tmp_path)
    assert record["session"] == "../../etc/passwd"
    (path,) = tmp_path.iterdir()
    assert path.stem.replace("-", "").isdigit()


async def test_capture_drops_and_counts_records_when_the_folder_is_full(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path, capture_limits=CaptureLimits(record_bytes=600, files=2, folder_bytes=10_000))
    large = {**BODY, "messages": [{"role": "user", "content": "x " * 400}]}
    assert (await served.post(large, X_Session_ID="large"))[0] == 200
    assert counted(served.metrics, "too_large") == 1
    for number in range(4):
        assert (await served.post(BODY, X_Session_ID=f"s{number}"))[0] == 200
    await until_written(served)
    assert [record["session"] for record in await read_records(tmp_path, 2)] == ["s0", "s1"], "the newest are left out"
    assert (counted(served.metrics, "kept"), counted(served.metrics, "full")) == (2, 2)
    for path in tmp_path.iterdir():
        path.unlink()  # as the recorder does
    await asyncio.sleep(1.1)
    await served.post(BODY, X_Session_ID="s9")
    assert [record["session"] for record in await read_records(tmp_path)] == ["s9"]


@pytest.mark.parametrize("limits", [CaptureLimits(files=2), CaptureLimits(folder_bytes=200)])
async def test_capture_counts_files_of_an_earlier_gateway(tmp_path: Path, limits: CaptureLimits):
    for number in range(2):
        (tmp_path / f"{number}.json").write_text("x" * 50)
    metrics = Metrics()
    capture = Capture(tmp_path, Redactor(), metrics, limits=limits)
    capture.add_outcome(outcome("s"))
    await capture._write_next()
    assert counted(metrics, "full") == 1
    assert len(list(tmp_path.iterdir())) == 2


async def test_requests_succeed_when_the_capture_folder_is_not_writable(serve: Serve, tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    served = await serve(capture=folder)
    folder.rmdir()
    for _ in range(3):
        assert (await served.post(BODY, X_Session_ID="s"))[0] == 200
    await until_written(served)
    assert counted(served.metrics, "failed") == 3


async def test_capture_drops_outcomes_when_its_queue_is_full(tmp_path: Path):
    metrics = Metrics()
    capture = Capture(tmp_path, Redactor(), metrics)  # and nobody writes
    for number in range(100):
        capture.add_outcome(outcome(f"s{number}"))
    assert counted(metrics, "full") == 36


async def test_capture_writes_its_queue_before_it_ends(tmp_path: Path):
    (tmp_path / "left.part").write_text("by a gateway that was killed")
    capture = Capture(tmp_path, Redactor(), Metrics())
    for number in range(9):
        capture.add_outcome(outcome(f"s{number}"))
    writing = asyncio.create_task(capture.run())
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert len(list(tmp_path.glob("*.json"))) >= 8
    assert not (tmp_path / "left.part").exists()


async def test_capture_drops_pictures_and_tools(serve: Serve, tmp_path: Path):
    served = await serve(capture=tmp_path)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,xyz"}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "secret"}}]}
    messages = [{"role": "user", "content": [{"type": "text", "text": "Look:"}, picture]}, call, {"odd": 1}]
    await served.post({"model": "bot", "messages": messages}, X_Session_ID="s")
    (record,) = await read_records(tmp_path)
    assert record["messages"] == [
        {"role": "user", "content": "Look:"},
        {"role": "assistant", "content": ""},
        {"role": "", "content": ""},
    ]
