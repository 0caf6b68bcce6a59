"""One look: what vLLM holds, what it should hold, and one step from the one to the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from distillery.core.artifacts import ArtifactError, Store
from distillery_gateway.proxy.upstream import served
from distillery_gateway.routing.document import Desired
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
        store: where adapters come from.
        folder: of the pod, which vLLM sees too.

    Attributes:
        generation: of the newest document, if its adapters are all held; else 0.
        problem: why they are not, if that is known.
    """

    def __init__(self, session: aiohttp.ClientSession, upstream: str, gateway: str, store: Store, folder: Path) -> None:
        self._session = session
        self._upstream = upstream
        self._gateway = gateway
        self._store = store
        self._folder = folder
        self.generation = 0
        self.problem = ""
        self.held: frozenset[str] = frozenset()
        self._complete: frozenset[str] | None = None

    @property
    def waits_for(self) -> str:
        """The reason why requests are not to be sent to this vLLM; empty once they are.

        A newer document that can't be had does not stop what the one before it names.
        """
        if self._complete is not None and self._complete <= self.held:
            return ""
        return self.problem or "the adapters are not loaded yet"

    async def look(self, desired: Desired) -> None:
        """Poll vLLM once, and load and unload adapters as the document says.

        Raises:
            aiohttp.ClientError: vLLM is away. Then nothing is held.
            TimeoutError: likewise.
        """
        try:
            models = await served(self._session, self._upstream)
        except (aiohttp.ClientError, TimeoutError):
            self.generation, self.held, self._complete = 0, frozenset(), None
            raise
        self.held = frozenset(name for name, parent in models.items() if parent)
        problem = ""
        for adapter in desired.adapters:
            if adapter.name in self.held:
                continue
            try:
                place = await asyncio.to_thread(adapters.provide, adapter, self._store, self._folder)
                await self._post("/v1/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(place)})
            except ArtifactError as error:
                problem = str(error)
                continue
            self.held |= {adapter.name}
            _log.info("loaded %s", adapter.name)
        if problem != self.problem and problem:
            _log.error("%s", problem)
        self.problem = problem
        wanted = {adapter.name for adapter in desired.adapters}
        self.generation = desired.generation if desired.generation and wanted <= self.held else 0
        if self.generation:
            self._complete = frozenset(wanted)
        for name in self.held - wanted - await self._in_use():
            await self._post("/v1/unload_lora_adapter", {"lora_name": name})
            adapters.forget(name, self._folder)
            self.held -= {name}
            _log.info("unloaded %s", name)

    async def _in_use(self) -> frozenset[str]:
        """What the gateway sends requests to. While it does not answer, everything may be in use."""
        try:
            async with self._session.get(f"{self._gateway}/state", timeout=aiohttp.ClientTimeout(total=5)) as answer:
                answer.raise_for_status()
                return frozenset((await answer.json())["modelsInUse"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return self.held

    async def _post(self, path: str, body: Mapping[str, Any]) -> None:
        async with self._session.post(f"{self._upstream}{path}", json=body, timeout=_TIMEOUT) as answer:
            if answer.status != 200:
                raise ArtifactError(f"vLLM refused {path} of {body['lora_name']}: {(await answer.text())[:300]}")
