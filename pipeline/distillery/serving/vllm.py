"""One vLLM server on this machine: started, shown other weights, stopped.

The server listens on the loopback interface only. It is private to a run: its development and adapter endpoints are on,
so that stages with different students share one process; ``distillery serve`` starts servers without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from distillery.core.child_processes import die_with_parent, free_port, is_free
from distillery.core.devices import machine_has_gpu
from distillery.core.model_servers import ServedModel, server_arguments, server_environment

_log = logging.getLogger(__name__)

# Compiling takes minutes on a GPU with a large model.
_START_SECONDS = 1200


class ServerFailed(Exception):
    """The server did not start, or did not obey a request; the message shows the end of its log."""


@dataclass
class VllmServer:
    """A server process.

    Args:
        model: what it starts with.
        log: file that receives its output.
        port: on 127.0.0.1; 0 takes a free one.
        private: with the endpoints that change what it serves.
        arguments: more of vLLM's arguments.
        sharing: the runs of this machine that share its processors, with this one.
    """

    model: ServedModel
    log: Path
    port: int = 0
    private: bool = True
    arguments: tuple[str, ...] = ()
    sharing: int = 1
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _adapters: set[str] = field(default_factory=set, init=False)
    _sockets: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False)

    @property
    def base_url(self) -> str:
        """The server's URL, up to and including ``/v1``."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> Self:
        """Start the process and wait until it answers. Raises :class:`ServerFailed`."""
        if self.port and not is_free(self.port):  # else what listens there would answer in vLLM's place
            raise ServerFailed(f"port {self.port} of 127.0.0.1 is taken: choose another one with --port")
        self.port = self.port or free_port()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._sockets = tempfile.TemporaryDirectory(prefix="distillery-vllm-")  # vLLM leaves them where they are
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + _START_SECONDS
        try:
            while not await self.healthy():
                if self._process.returncode is not None:
                    raise ServerFailed(f"vLLM ended with code {self._process.returncode}:\n{self._tail_log()}")
                if time.monotonic() > deadline:
                    raise ServerFailed(f"vLLM did not answer within {_START_SECONDS} s:\n{self._tail_log()}")
                await asyncio.sleep(0.5)
        except BaseException:
            await self.stop()
            raise
        if self.private:
            await self.show(self.model)
        return self

    async def restart(self) -> Self:
        """Start the server again at its port, after it ended by itself. Raises :class:`ServerFailed`."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it started still holds its memory
        _log.warning("vLLM ended with code %s and is started again:\n%s", self._process.returncode, self._tail_log())
        self._adapters.clear()
        return await self.start()

    async def healthy(self) -> bool:
        """Return whether the process is there and answers."""
        if self._process is None or self._process.returncode is not None:
            return False
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self._url("/health")) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def can_show(self, model: ServedModel) -> bool:
        """Return whether :meth:`show` works for a model, or a new server is needed."""
        return self.private and model.base == self.model.base and model.adapter_rank <= self.model.adapter_rank

    async def show(self, model: ServedModel) -> None:
        """Serve another student of the same base, or the base itself, in place of the present one.

        Nothing may be in flight. Merged weights are read into the running process, which takes a fraction of a second
        where a start takes a minute; an adapter is loaded in addition to the base. Raises :class:`ServerFailed`.
        """
        if model.adapter and model.name not in self._adapters:
            # an adapter is never loaded under a name that was used before: vLLM's prefix cache goes by name
            await self._post("/v1/load_lora_adapter", {"lora_name": model.name, "lora_path": model.adapter})
            self._adapters.add(model.name)
        if model.weights != self.model.weights:
            arguments = {"weights_path": model.weights}
            await self._post("/collective_rpc", {"method": "reload_weights", "kwargs": arguments})
            await self._post("/reset_prefix_cache", {})
        self.model = model

    async def stop(self) -> None:
        """End the process and everything it started."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        for sign, patience in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), patience)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started and did not end
        if self._sockets:
            self._sockets.cleanup()

    async def wait(self) -> int:
        """Wait until the process ends, and return its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def _post(self, path: str, body: Mapping[str, Any]) -> None:
        """Send a request to one of vLLM's endpoints for developers. Raises :class:`ServerFailed`."""
        timeout = aiohttp.ClientTimeout(total=300)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                self._url(path), data=json.dumps(body), headers={"Content-Type": "application/json"}
            ) as answer,
        ):
            if answer.status != 200:
                raise ServerFailed(f"vLLM refused {path} with {answer.status}: {(await answer.text())[:500]}")

    def _url(self, path: str) -> str:
        """Return the URL of a path of the server."""
        return f"http://127.0.0.1:{self.port}{path}"

    def _command(self) -> list[str]:
        """Return the command that starts the server."""
        arguments = server_arguments(self.model, port=self.port, gpu=machine_has_gpu(), load_adapter=not self.private)
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments, *self.arguments]

    def _environment(self) -> dict[str, str]:
        """Return the environment variables of the process."""
        environment = {
            **server_environment(gpu=machine_has_gpu()),
            **({} if machine_has_gpu() else _share_threads(self.sharing)),
            **os.environ,
        }
        if self._sockets:
            environment["VLLM_RPC_BASE_PATH"] = self._sockets.name
        if self.private:
            environment["VLLM_SERVER_DEV_MODE"] = "1"
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
        return environment

    def _tail_log(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-15:])


def _share_threads(sharing: int) -> dict[str, str]:
    """Return a run's share of the threads that vLLM would take, not bound to cores that another run would share."""
    threads = ((os.cpu_count() or 1) - 1) // sharing
    return {"OMP_NUM_THREADS": str(max(1, threads)), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
