"""Start-up of the syncer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from typing import Any

import aiohttp

from distillery.core import probes
from distillery.core.artifacts import ArtifactError, store_at
from distillery.core.contracts.routing import InvalidRoutingConfig
from distillery_gateway.routing.file import RoutingFile
from distillery_gateway.syncer.settings import Settings
from distillery_gateway.syncer.sync import Syncer

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


def main() -> None:
    """Sync until the process is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(str(error))
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None
    # the first process of a container is not ended by a signal that it does not handle
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    store = store_at(settings.store_uri, settings.identity, cache=settings.cache, endpoint_url=settings.store_endpoint)
    async with aiohttp.ClientSession() as session:
        syncer = Syncer(session, settings.upstream, settings.gateway, store, settings.adapters)
        server = probes.serve(
            settings.port,
            checks={"/healthz": probes.is_alive, "/readyz": lambda: syncer.not_ready_reason},
            documents={"/state": lambda: _state(syncer)},
        )
        async with server:
            await _sync(syncer, RoutingFile(settings.routing_file))


def _state(syncer: Syncer) -> dict[str, Any]:
    """Return the document that /state serves."""
    return {"generation": syncer.generation, "held": sorted(syncer.loaded), "problem": syncer.problem}


async def _sync(syncer: Syncer, file: RoutingFile) -> None:
    away = False
    while True:
        try:
            file.refresh()
            await syncer.sync(file.current)
            away = False
        except InvalidRoutingConfig as error:
            _log.error("%s", error)
        except ArtifactError as error:
            syncer.problem = str(error)
            _log.error("%s", error)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not away:
                _log.warning("vLLM is away: %s", error)
            away = True
        await asyncio.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
