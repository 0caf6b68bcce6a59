"""What stands in for a model server and an environment: both cost next to nothing, each in a process of its own.

python -m benchmarks.support.fakes SECONDS      the server; prints its port
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from distillery.core.child_processes import die_with_parent
from distillery.environments.base import Environment, Observation, Task

ROOT = Path(__file__).parents[2]
OBSERVATION = "On the shelf 3, you see a book 2, a mug 1, a vase 4, a keychain 2, and a newspaper 1. " * 3
INSTRUCTIONS = "Interact with a household to solve a task. Write one command a line, and nothing else. " * 60
"""5 KB, as worked examples make a prompt."""


class Corridor(Environment):
    """As many steps as the task's id says after its colon, each with 260 characters to read, then success."""

    name: ClassVar[str] = "corridor"
    instructions = INSTRUCTIONS

    def catalog(self, split: str) -> Sequence[Task]:
        """None: tasks are made by :func:`tasks`."""
        return ()

    def open(self, task: Task) -> CorridorSession:
        """A session that counts."""
        return CorridorSession(int(task.id.rpartition(":")[2]))


class CorridorSession:
    """Counts steps."""

    def __init__(self, steps: int) -> None:
        self._left = self._steps = steps

    def reset(self) -> Observation:
        """Start over."""
        self._left = self._steps
        return Observation(INSTRUCTIONS)

    def step(self, action: str) -> Observation:
        """One step nearer."""
        self._left -= 1
        return Observation(OBSERVATION, score=float(not self._left), done=not self._left, success=not self._left)

    def close(self) -> None:
        """Nothing is held."""


def tasks(lengths: Sequence[int]) -> list[Task]:
    """Tasks of so many steps."""
    return [Task(f"{number}:{steps}", "train", "walk", "walk") for number, steps in enumerate(lengths)]


def register(folder: Path) -> dict[str, str]:
    """Register the environment by a distribution in ``folder``; the variables of processes that are to find it."""
    distribution = folder / "corridor-1.0.dist-info"
    distribution.mkdir(parents=True, exist_ok=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: corridor\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text(
        "[distillery.environments]\ncorridor = benchmarks.support.fakes:Corridor\n"
    )
    path = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


@contextlib.contextmanager
def server(seconds: float, *, clients: int = 1) -> Generator[str]:
    """The base URL of a server, in another process, that takes so long for every answer, and for a token of a stream.

    What it serves (/models) it tells once so many clients have asked: they begin to play together.
    """
    command = [sys.executable, "-m", "benchmarks.support.fakes", str(seconds), str(clients)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=die_with_parent) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with bodies of known length, one request at a time: all that our client sends."""

    def __init__(self, seconds: float, clients: asyncio.Barrier, batch: _Batch) -> None:
        self._seconds = seconds
        self._clients = clients
        self._batch = batch
        self._received = b""
        self._waiting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from another class

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        if len(body) < length:
            return
        self._received = body[length:]
        if head.startswith(b"GET"):
            self._waiting = asyncio.create_task(self._tell_models())
        elif b'"stream": true' in body:
            self._transport.write(_STREAM)
            self._batch.join(self._transport, json.loads(body)["max_tokens"])
        else:
            asyncio.get_running_loop().call_later(self._seconds, self._answer, _completion(length))

    async def _tell_models(self) -> None:
        await self._clients.wait()
        self._answer({"data": [{"id": "m", "max_model_len": 1_000_000}]})

    def _answer(self, document: Mapping[str, Any]) -> None:
        if self._transport.is_closing():  # the client was killed
            return
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


class _Batch:
    """Streams that get their tokens together, one a step, as those of a GPU do."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sent: dict[asyncio.Transport, tuple[int, int]] = {}

    def join(self, transport: asyncio.Transport, tokens: int) -> None:
        """Send so many tokens; the first step begins now if no step is in progress."""
        if not self._sent:
            loop = asyncio.get_running_loop()
            due = loop.time() + self._seconds
            loop.call_at(due, self._step, due)
        self._sent[transport] = (0, tokens)

    def _step(self, due: float) -> None:
        for transport, (sent, tokens) in list(self._sent.items()):
            if transport.is_closing():  # the client was killed
                del self._sent[transport]
            elif sent + 1 < tokens:
                transport.write(_TOKEN)
                self._sent[transport] = (sent + 1, tokens)
            else:
                transport.write(_TOKEN + _end(tokens))
                del self._sent[transport]
        if self._sent:
            due += self._seconds  # a step that was late does not delay the next
            asyncio.get_running_loop().call_at(due, self._step, due)


def _event(data: str) -> bytes:
    """An event of a stream as a chunk of HTTP."""
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _part(choices: Sequence[Mapping[str, Any]], **more: Any) -> bytes:
    """A part of an answer, as vLLM streams it."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return _event(json.dumps({**head, "choices": choices, **more}))


_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
_TOKEN = _part([{"index": 0, "delta": {"content": "shelf"}, "logprobs": None, "finish_reason": None}])


def _end(tokens: int) -> bytes:
    """How a stream ends."""
    stop = _part([{"index": 0, "delta": {}, "finish_reason": "length"}])
    usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    return stop + _part([], usage=usage) + _event("[DONE]") + b"0\r\n\r\n"


def _completion(length: int) -> dict[str, Any]:
    """As vLLM answers a chat, with tokens of four characters."""
    usage = {"prompt_tokens": length // 4, "completion_tokens": 12, "total_tokens": length // 4 + 12}
    message = {"role": "assistant", "content": "> go to shelf 3, and see what is on it"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


async def _serve(seconds: float, clients: int) -> None:
    barrier, batch, loop = asyncio.Barrier(clients), _Batch(seconds), asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Connection(seconds, barrier, batch), "127.0.0.1", 0, backlog=4096)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(float(sys.argv[1]), int(sys.argv[2])))
