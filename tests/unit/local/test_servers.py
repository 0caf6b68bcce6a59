"""What a model server of this machine is started with, and where it can't start."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from distillery.core.api import parse
from distillery.core.artifacts.folder import FolderStore
from distillery.core.child_processes import free_port, is_free
from distillery.core.model_servers import ServedModel
from distillery.local.servers import Servers
from distillery.serving import vllm
from distillery.serving.vllm import ServerFailed, VllmServer
from tests.unit.documents import document

MODEL = ServedModel(base="/models/tiny", name="tiny")


class Healthy(http.server.BaseHTTPRequestHandler):
    """Somebody else's server, which is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def taken() -> Generator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


async def test_start_refuses_a_port_where_another_server_is_healthy(taken: int, tmp_path: Path):
    server = VllmServer(MODEL, tmp_path / "vllm.log", port=taken, private=False)
    with pytest.raises(ServerFailed, match=rf"port {taken} of 127\.0\.0\.1 is taken: choose another one with --port"):
        await server.start()


def test_port_is_free_when_its_listener_is_gone():
    port = free_port()
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)


def test_free_port_is_outside_of_the_range_for_connections():
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
    ports = {free_port() for _ in range(100)}
    assert len(ports) > 90, "two processes that start together would get one port"
    assert not [port for port in ports if low <= port <= high]


def test_server_binds_threads_to_no_core_when_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vllm, "machine_has_gpu", lambda: False)
    monkeypatch.setattr(vllm.os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = VllmServer(MODEL, tmp_path / "vllm.log")._environment()
    assert (environment["VLLM_CPU_OMP_THREADS_BIND"], environment["OMP_NUM_THREADS"]) == ("nobind", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert VllmServer(MODEL, tmp_path / "vllm.log")._environment()["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(("sharing", "threads"), [(1, "7"), (2, "3"), (9, "1")])
def test_server_takes_its_share_of_threads_when_several_runs_share(
    sharing: int, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vllm, "machine_has_gpu", lambda: False)
    monkeypatch.setattr(vllm.os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert VllmServer(MODEL, tmp_path / "vllm.log", sharing=sharing)._environment()["OMP_NUM_THREADS"] == threads


def test_describe_start_names_the_log_and_its_last_line(tmp_path: Path):
    log = tmp_path / "vllm.log"
    servers = Servers(parse(document()).spec, FolderStore(tmp_path), log)
    assert servers.describe_start() == f"waiting for the model server, log {log}"
    log.write_text("one\nloading " + "weights " * 30 + "\n")
    message = servers.describe_start()
    assert message.startswith(f"waiting for the model server, log {log}: loading weights")
    assert message.endswith(" ...")
