"""One step of the syncer: from the adapters that vLLM holds to those that the routing document names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from distillery.core.artifacts import ArtifactError, Store
from distillery.core.contracts.routing import Adapter, RoutingConfig
from distillery_gateway.proxy.upstream import fetch_models
from distillery_gateway.syncer import adapters

_log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=120)


class Syncer:
    """The syncer of one vLLM, which loads and unloads adapters as the routing document says.

    The next poll notices everything that died: a vLLM that started again holds nothing, and gets all adapters again.

    Args:
        session: to vLLM and the gateway.
        upstream: URL of vLLM.
        gateway: URL of the gateway's port for operators: adapters that it uses are not unloaded.
        store: of the artifacts.
        folder: of the pod, which vLLM sees too.

    Attributes:
        generation: of the newest document, if its adapters are all loaded; else 0.
        problem: the reason why they are not, if it is known.
        loaded: the adapters that vLLM holds.
    """

    def __init__(self, session: aiohttp.ClientSession, upstream: str, gateway: str, store: Store, folder: Path) -> None:
        self._session = session
        self._upstream = upstream
        self._gateway = gateway
        self._store = store
        self._folder = folder
        self.generation = 0
        self.problem = ""
        self.loaded: frozenset[str] = frozenset()
        self._complete: frozenset[str] | None = None

    @property
    def not_ready_reason(self) -> str:
        """The reason why requests must not be sent to this vLLM; empty if they may.

        A newer document whose adapters can't be loaded does not stop the one before it.
        """
        if self._complete is not None and self._complete <= self.loaded:
            return ""
        return self.problem or "the adapters are not loaded yet"

    async def sync(self, config: RoutingConfig) -> None:
        """Poll vLLM once, and load and unload adapters as the document says.

        Raises:
            aiohttp.ClientError: vLLM is away. Then nothing is loaded.
            TimeoutError: likewise.
        """
        try:
            models = await fetch_models(self._session, self._upstream)
        except (aiohttp.ClientError, TimeoutError):
            self.generation, self.loaded, self._complete = 0, frozenset(), None
            raise
        self.loaded = frozenset(name for name, parent in models.items() if parent)
        self._set_problem(await self._load_missing(config))
        desired = frozenset(adapter.name for adapter in config.adapters)
        self.generation = config.generation if config.generation and desired <= self.loaded else 0
        if self.generation:
            self._complete = desired
        for name in self.loaded - desired - await self._in_use():
            await self._post("/v1/unload_lora_adapter", {"lora_name": name})
            adapters.forget(name, self._folder)
            self.loaded -= {name}
            _log.info("unloaded %s", name)

    async def _load_missing(self, config: RoutingConfig) -> str:
        """Load the adapters that vLLM lacks. Return the last problem: one bad adapter does not stop the others."""
        problem = ""
        for adapter in config.adapters:
            if adapter.name not in self.loaded:
                try:
                    await self._load(adapter)
                except ArtifactError as error:
                    problem = str(error)
        return problem

    async def _load(self, adapter: Adapter) -> None:
        folder = await asyncio.to_thread(adapters.provide, adapter, self._store, self._folder)
        await self._post("/v1/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(folder)})
        self.loaded |= {adapter.name}
        _log.info("loaded %s", adapter.name)

    def _set_problem(self, problem: str) -> None:
        if problem and problem != self.problem:
            _log.error("%s", problem)
        self.problem = problem

    async def _in_use(self) -> frozenset[str]:
        """Return the models that the gateway uses. While it does not answer, everything may be in use."""
        try:
            async with self._session.get(f"{self._gateway}/state", timeout=aiohttp.ClientTimeout(total=5)) as response:
                response.raise_for_status()
                return frozenset((await response.json())["modelsInUse"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return self.loaded

    async def _post(self, path: str, body: Mapping[str, Any]) -> None:
        async with self._session.post(f"{self._upstream}{path}", json=body, timeout=_TIMEOUT) as response:
            if response.status != 200:
                raise ArtifactError(f"vLLM refused {path} of {body['lora_name']}: {(await response.text())[:300]}")
