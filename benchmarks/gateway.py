"""What the gateway costs: a server reached through it, and the same server reached without, in one run.

    python -m benchmarks.gateway

The gateway is the process that the operator's manifest describes, with a key that is asked for. Two servers stand
behind: a stand-in that sends a token to all its streams every 20 ms, as a GPU would, so that the gateway's own cost
shows; and vLLM on this machine's CPU with the demonstration's model, which then has to share that CPU with the gateway
and the client. The same requests go both ways in turns: of one request each where latency is measured, and of 64
clients where tokens are counted. A figure is the median over the pairs of turns, with its 95 % interval by bootstrap.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.fakes import ROOT, server
from benchmarks.support.figures import Figure, conclude, options
from benchmarks.support.http_load import Load, Turn, carry_out
from distillery.core.api import parse
from distillery.core.child_processes import die_with_parent, free_port
from distillery.core.model_servers import ServedModel
from distillery.serving.vllm import VllmServer
from distillery_gateway.auth.api_keys import digest_of
from distillery_operator.manifests import gateway
from distillery_operator.model.names import RunRef
from distillery_operator.settings import Settings

STEP = 0.02
"""Seconds between two tokens of a stream of the stand-in."""

CLIENTS, TOKENS = 64, 64
"""Streams at once, and tokens of each."""

KEY = "dk-benchmark"
SHARED = "vLLM, gateway and client share the cores of one machine, and vLLM alone would use all of them"

RUN = {
    "apiVersion": "distillery.dev/v1alpha1",
    "kind": "DistillationRun",
    "metadata": {"name": "m"},
    "spec": {
        "models": {"student": {"model": "/models/none"}},
        "serving": {"gateway": {"apiKeysSecretRef": {"name": "clients"}}},
    },
}

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [
        {
            "role": "user",
            "content": "You are in the middle of a room. Looking quickly around you, you see a bed 1, a desk 1, and a "
            "shelf 1.\nYour task is to: put some book in bed.",
        }
    ],
    "temperature": 0,
    "logit_bias": {"3": -100},  # the end of a turn: all answers have the same length
}
STREAMED = {**BODY, "stream": True, "stream_options": {"include_usage": True}}

Statistic = Callable[[Turn, Turn], float]
"""Of a turn through the gateway and one without."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median over pairs, and its interval."""

    median: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """By bootstrap over the values."""
        found, rng = np.asarray(values), np.random.default_rng(0)
        medians = np.median(rng.choice(found, (2000, len(found))), axis=1)
        low, high = np.percentile(medians, (2.5, 97.5)).tolist()
        return cls(float(np.median(found)), low, high, len(found))

    def n(self, what: str) -> str:
        """In words."""
        return f"{self.pairs:,} pairs of {what}, 95 % interval {self.low:.3g} to {self.high:.3g}"


class Process:
    """A running gateway.

    Attributes:
        url: where clients come.
    """

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self._pid = pid

    def cpu_seconds(self) -> float:
        """CPU time until now."""
        fields = Path(f"/proc/{self._pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def through(upstream: str, folder: Path) -> Generator[Process]:
    """The gateway in front of a server that serves ``m``, as the operator would start it in a pod."""
    made = gateway.gateway_container(RunRef(parse(RUN), "uid"), gpu=False, settings=Settings())
    folder.mkdir(parents=True)
    (folder / "keys").mkdir()
    (folder / "keys" / "client").write_text(digest_of(KEY))
    (folder / "desired").write_text(json.dumps({"generation": 1, "aliases": {"m": [{"model": "m"}]}}))
    port, admin = free_port(), free_port()
    environment = {variable["name"]: variable["value"] for variable in made["env"]} | {
        "DISTILLERY_UPSTREAM_URL": upstream,
        "DISTILLERY_PORT": str(port),
        "DISTILLERY_ADMIN_PORT": str(admin),
        "DISTILLERY_ROUTING_FILE": str(folder / "desired"),
        "DISTILLERY_API_KEYS_DIR": str(folder / "keys"),
    }
    command = [sys.executable, *made["command"][1:]]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env={**os.environ, **environment}, stderr=log, preexec_fn=die_with_parent) as process,
    ):
        try:
            _wait_until_ready(f"http://127.0.0.1:{admin}/readyz", process)
            yield Process(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the gateway is not ready: {error}") from error
            time.sleep(0.1)


@dataclass(frozen=True)
class Upstream:
    """A model server behind the gateway.

    Attributes:
        name: of the server, in words.
        url: where it answers.
        note: why tokens a second may fall short.
    """

    name: str
    url: str
    note: str = ""


def compare(upstream: Upstream, scratch: Path, *, pairs: int, rounds: int) -> list[Figure]:
    """Return the figures of a server.

    Args:
        upstream: the server.
        scratch: folder for the gateway's files and log.
        pairs: of requests, for latency.
        rounds: of turns of many clients.
    """
    name = upstream.name
    with through(upstream.url, scratch / "gateway") as front:
        load = Load(
            addresses={"with": front.url, "without": upstream.url},
            path="/v1/chat/completions",
            headers={"Authorization": f"Bearer {KEY}"},
            body={**BODY, "max_tokens": 8},
            clients=1,
            requests=1,
            turns=pairs,
        )
        short = _estimate(load, lambda one, other: 1e3 * (one.whole[0] - other.whole[0]))
        first = _estimate(
            replace(load, body={**STREAMED, "max_tokens": 2}), lambda one, other: 1e3 * (one.first[0] - other.first[0])
        )
        many = replace(load, body={**STREAMED, "max_tokens": TOKENS}, clients=CLIENTS, requests=2, turns=rounds)
        before, turns = front.cpu_seconds(), carry_out(many)
        spent = front.cpu_seconds() - before
    passed = [turn for turn in turns if turn.address == "with"]
    speed = Estimate.of([_speed(one) / _speed(other) for one, other in _pairs(turns)])
    # the first turn of all is not among them
    tokens = sum(turn.tokens for turn in passed) * (len(passed) + 1) / len(passed)
    streams = f"repetitions of {2 * CLIENTS} streams of {TOKENS} tokens"
    return [
        Figure(f"latency added to a short answer, 1 client, {name}", short.median, short.n("requests"), most=2,
               unit="ms", room=4),
        Figure(f"latency added to the first byte of a stream, 1 client, {name}", first.median, first.n("requests"),
               most=2, unit="ms", room=4),
        Figure(f"tokens/s with / without, {CLIENTS} clients, {name}", speed.median, speed.n(streams), least=0.95,
               note=upstream.note),
        Figure(f"tokens/s without, {CLIENTS} clients, {name}",
               float(np.median([_speed(turn) for turn in turns if turn.address == "without"])), streams),
        Figure(f"gateway CPU per token, {CLIENTS} clients, {name}", 1e6 * spent / tokens, f"{tokens:,.0f} tokens",
               unit="µs"),
    ]  # fmt: skip


def _estimate(load: Load, statistic: Statistic) -> Estimate:
    return Estimate.of([statistic(one, other) for one, other in _pairs(carry_out(load))])


def _pairs(turns: Sequence[Turn]) -> list[tuple[Turn, Turn]]:
    """Turns with the gateway, each with the one without that came just before or after."""
    pairs = [(turns[index], turns[index + 1]) for index in range(0, len(turns), 2)]
    return [(one, other) if one.address == "with" else (other, one) for one, other in pairs]


def _speed(turn: Turn) -> float:
    return turn.tokens / turn.seconds


@contextlib.asynccontextmanager
async def vllm(log: Path) -> AsyncGenerator[str]:
    """The URL of a vLLM with the demonstration's model, started as those that serve users."""
    made = VllmServer(ServedModel(str(ROOT / "models" / "micro"), "m"), log, private=False)
    await made.start()
    try:
        yield made.base_url.removesuffix("/v1")
    finally:
        await made.stop()


async def measure(scratch: Path, *, short: bool) -> list[Figure]:
    """The figures of both servers; in the short form of the stand-in alone."""
    pairs, rounds = (100, 3) if short else (1000, 10)
    with server(STEP) as base_url:
        paced = Upstream("a paced fake server", base_url.removesuffix("/v1"))
        figures = compare(paced, scratch / "paced", pairs=pairs, rounds=rounds)
    if not short:
        async with vllm(scratch / "vllm.log") as url:
            upstream = Upstream("vLLM on a CPU", url, SHARED)
            figures += compare(upstream, scratch / "vllm", pairs=500, rounds=rounds)
    return figures


def main() -> None:
    """Compare."""
    parser = options(__doc__)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="distillery-bench-") as scratch:
        figures = asyncio.run(measure(Path(scratch), short=chosen.short))
    conclude("gateway", figures, chosen, {"secondsOfAStep": STEP})


if __name__ == "__main__":
    main()
