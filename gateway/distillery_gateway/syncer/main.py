"""Start-up of the syncer.

DISTILLERY_UPSTREAM_URL        URL of the pod's vLLM                       http://127.0.0.1:8001
DISTILLERY_GATEWAY             URL of the gateway's port for operators     http://127.0.0.1:8002
DISTILLERY_ROUTING_FILE        file with the routing document              /etc/distillery/desired/desired
DISTILLERY_STORE_URI           URI of the artifacts of all runs of the name
DISTILLERY_IDENTITY            the run: its uid and the digest of what it learns, UID-DIGEST
DISTILLERY_STORE_ENDPOINT_URL  URL of an S3 server other than AWS's
DISTILLERY_CACHE               folder for artifacts that come from elsewhere
DISTILLERY_ADAPTERS_DIR        folder that vLLM sees too                   /adapters
DISTILLERY_SYNCER_PORT         /healthz, /readyz, /state                   8003
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

import aiohttp

from distillery.core.artifacts import ArtifactError, Identity, store_at
from distillery.core.contracts.routing import InvalidRoutingConfig
from distillery_gateway import admin
from distillery_gateway.routing.file import RoutingFile
from distillery_gateway.syncer.sync import Syncer

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


def main() -> None:
    """Sync until the process is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    required = (("DISTILLERY_STORE_URI", "the URI of the artifacts"), ("DISTILLERY_IDENTITY", "the run"))
    for variable, description in required:
        if not os.environ.get(variable):
            sys.exit(f"{variable} is not set: name {description}")
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve())


async def _serve() -> None:
    task = asyncio.current_task()
    assert task is not None
    # the first process of a container is not ended by a signal that it does not handle
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    get = os.environ.get
    store = store_at(
        os.environ["DISTILLERY_STORE_URI"],
        Identity.parse(os.environ["DISTILLERY_IDENTITY"]),
        cache=Path(get("DISTILLERY_CACHE", "/artifacts")),
        endpoint_url=get("DISTILLERY_STORE_ENDPOINT_URL") or None,
    )
    async with aiohttp.ClientSession() as session:
        syncer = Syncer(
            session,
            get("DISTILLERY_UPSTREAM_URL", "http://127.0.0.1:8001").rstrip("/"),
            get("DISTILLERY_GATEWAY", "http://127.0.0.1:8002").rstrip("/"),
            store,
            Path(get("DISTILLERY_ADAPTERS_DIR", "/adapters")),
        )
        runner = await admin.serve(
            int(get("DISTILLERY_SYNCER_PORT", "8003")),
            not_ready_reason=lambda: syncer.not_ready_reason,
            state=lambda: {
                "generation": syncer.generation,
                "held": sorted(syncer.loaded),
                "problem": syncer.problem,
            },
        )
        try:
            await _sync(syncer, RoutingFile(Path(get("DISTILLERY_ROUTING_FILE", "/etc/distillery/desired/desired"))))
        finally:
            await runner.cleanup()


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
