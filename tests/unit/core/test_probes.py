"""The port for probes, Prometheus and other pods."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from distillery.core import probes
from distillery.core.child_processes import free_port


async def ask(port: int, path: str) -> tuple[int, str, str]:
    """Return the status, the type and the text of an answer."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, answer.content_type, await answer.text()


async def test_check_answers_503_with_its_problem_while_there_is_one():
    problems = ["it starts"]
    check: Callable[[], str] = lambda: problems[0] if problems else ""  # noqa: E731
    port = free_port()
    async with probes.serve(port, checks={"/healthz": probes.is_alive, "/readyz": check}):
        assert await ask(port, "/readyz") == (503, "text/plain", "it starts\n")
        problems.clear()
        assert await ask(port, "/readyz") == (200, "text/plain", "ok\n")
        assert await ask(port, "/healthz") == (200, "text/plain", "ok\n")


async def test_document_is_served_as_it_is_when_asked_for():
    state, port = {"generation": 1}, free_port()
    async with probes.serve(port, documents={"/state": lambda: state}):
        assert await ask(port, "/state") == (200, "application/json", '{"generation": 1}')
        state["generation"] = 2
        assert await ask(port, "/state") == (200, "application/json", '{"generation": 2}')


async def test_metrics_are_served_in_the_text_format_of_prometheus():
    registry, port = CollectorRegistry(), free_port()
    Gauge("app_runs", "Runs.", registry=registry).set(3)
    async with probes.serve(port, registry=registry):
        status, kind, text = await ask(port, "/metrics")
    assert (status, kind) == (200, "text/plain")
    assert "app_runs 3.0\n" in text


async def test_paths_that_nobody_named_are_not_found():
    port = free_port()
    async with probes.serve(port, checks={"/healthz": probes.is_alive}):
        for path in ("/readyz", "/state", "/metrics"):
            assert (await ask(port, path))[0] == 404


async def test_port_is_free_again_when_the_context_ends():
    port = free_port()
    for _ in range(2):
        async with probes.serve(port, checks={"/healthz": probes.is_alive}):
            assert (await ask(port, "/healthz"))[0] == 200
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(port, "/healthz")


async def test_serve_fails_when_the_port_is_taken():
    port = free_port()
    async with probes.serve(port):
        with pytest.raises(OSError, match=str(port)):
            async with probes.serve(port):
                pass
