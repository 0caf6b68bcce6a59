"""Start-up of the gateway: settings, the public port, the port for probes and the operator, and the refresh loop.

DISTILLERY_UPSTREAM_URL       URL of the pod's vLLM                          http://127.0.0.1:8001
DISTILLERY_PORT               where clients come                             8000
DISTILLERY_ADMIN_PORT         /healthz, /readyz, /metrics, /state            8002
DISTILLERY_ROUTING_FILE       file with what is to be served                 /etc/distillery/desired/desired
DISTILLERY_API_KEYS_DIR       folder with keys; without it everybody may ask
DISTILLERY_DENIED_PARAMETERS  parameters that are refused, with commas
DISTILLERY_CAPTURE_DIR        folder for what sessions play; without it nothing is kept
DISTILLERY_REDACT_PATTERNS    JSON: expressions whose matches are not kept
DISTILLERY_HANG_SECONDS       without any progress after which vLLM is said to hang      120
DISTILLERY_PER_KEY_LIMITS     false where other gateways, which hold keys to their limits, send all requests      true
DISTILLERY_LIMITS             JSON: the fields of limits.Limits, as maxBodyBytes, maxTokens or maxConnectionsPerAddress
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import aiohttp
import uvicorn

from distillery_gateway import admin
from distillery_gateway.auth.api_keys import KeyRing
from distillery_gateway.auth.rate_limits import Limits
from distillery_gateway.capture.expressions import InvalidExpression, compile_expression
from distillery_gateway.capture.redaction import Redactor
from distillery_gateway.capture.writer import Capture
from distillery_gateway.connections import Gate
from distillery_gateway.metrics import Metrics
from distillery_gateway.proxy.app import Gateway
from distillery_gateway.proxy.upstream import Progress, served_with_context
from distillery_gateway.routing.document import DesiredFile, InvalidDesired
from distillery_gateway.routing.table import Routes

_log = logging.getLogger(__name__)

_REFRESH_SECONDS = 0.5
_LOOK_SECONDS = 2.0
_SILENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The gateway's settings. See the module."""

    upstream: str = "http://127.0.0.1:8001"
    port: int = 8000
    admin_port: int = 8002
    desired: Path = Path("/etc/distillery/desired/desired")
    keys: Path | None = None
    denied: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    capture: Path | None = None
    redact: tuple[str, ...] = ()
    hang_seconds: float = 120.0
    per_key_limits: bool = True

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the variables. Raises ValueError that names the one that is wrong."""
        get, default = environment.get, cls()
        try:
            return cls(
                upstream=get("DISTILLERY_UPSTREAM_URL", default.upstream).rstrip("/"),
                port=int(get("DISTILLERY_PORT") or default.port),
                admin_port=int(get("DISTILLERY_ADMIN_PORT") or default.admin_port),
                desired=Path(get("DISTILLERY_ROUTING_FILE") or default.desired),
                keys=Path(given) if (given := get("DISTILLERY_API_KEYS_DIR")) else None,
                denied=frozenset(filter(None, get("DISTILLERY_DENIED_PARAMETERS", "").split(","))),
                limits=_limits(json.loads(get("DISTILLERY_LIMITS") or "{}")),
                capture=Path(given) if (given := get("DISTILLERY_CAPTURE_DIR")) else None,
                hang_seconds=float(get("DISTILLERY_HANG_SECONDS") or default.hang_seconds),
                per_key_limits=get("DISTILLERY_PER_KEY_LIMITS", "true") != "false",
                redact=_expressions(json.loads(get("DISTILLERY_REDACT_PATTERNS") or "[]")),
            )
        except (ValueError, TypeError) as error:
            raise ValueError(f"a variable of the gateway is wrong: {error}") from error


def _limits(given: Mapping[str, Any]) -> Limits:
    names = {"".join(p.title() if i else p for i, p in enumerate(f.name.split("_"))): f.name for f in fields(Limits)}
    unknown = given.keys() - names.keys()
    if unknown:
        raise ValueError(f"DISTILLERY_LIMITS: unknown {sorted(unknown)[0]}; known: {', '.join(names)}")
    return Limits(**{names[name]: value for name, value in given.items()})


def _expressions(given: Any) -> tuple[str, ...]:
    try:
        return tuple(compile_expression(expression).pattern for expression in given)
    except InvalidExpression as error:
        raise ValueError(f"DISTILLERY_REDACT_PATTERNS: {error}") from error


def main() -> None:
    """Serve until the process is stopped; running requests are finished first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(str(error))
    # each client takes a descriptor, and so does its request to the server behind
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    import uvloop

    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    routes, keys, metrics = Routes(), KeyRing(settings.keys), Metrics()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=600)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)  # vLLM hangs up after 5 s
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False) as session:
        capture = Capture(settings.capture, Redactor(settings.redact), metrics) if settings.capture else None
        progress = Progress(session, settings.upstream, patience=settings.hang_seconds)
        gateway = Gateway(
            *(session, settings.upstream, routes, keys, settings.limits, metrics),
            denied=settings.denied,
            capture=capture,
            progress=progress,
            per_key_limits=settings.per_key_limits,
        )
        runner = await admin.serve(
            settings.admin_port,
            waits_for=lambda: routes.waits_for or _hang(progress),
            upstream=lambda: _hang(progress),
            state=lambda: {
                "generation": routes.generation,
                "modelsInUse": sorted(routes.in_use),
                "traffic": routes.live.told(),
            },
            registry=metrics.registry,
        )
        beside = [
            asyncio.create_task(_refresh(settings, session, routes, keys, metrics)),
            asyncio.create_task(progress.watch()),
        ]
        if capture:
            beside.append(asyncio.create_task(capture.run()))
        gate = Gate(settings.limits, lambda reason: metrics.closed.labels(reason).inc())
        config = uvicorn.Config(
            gateway, host="", port=settings.port, lifespan="off", log_config=None, access_log=False,
            timeout_keep_alive=75, timeout_graceful_shutdown=110, server_header=False,
            loop="none", http=gate.protocol(), ws="none",
        )  # fmt: skip
        try:
            await uvicorn.Server(config).serve()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await runner.cleanup()


def _hang(progress: Progress) -> str:
    return "vLLM makes no progress with its requests" if progress.hangs else ""


async def _refresh(
    settings: Settings, session: aiohttp.ClientSession, routes: Routes, keys: KeyRing, metrics: Metrics
) -> None:
    """Take over new keys, and a new table once vLLM holds what it names; and see that it goes on holding it."""
    desired, told = DesiredFile(settings.desired), ""
    looked = heard = -math.inf
    while True:
        now, problem = time.monotonic(), ""
        try:
            if await asyncio.to_thread(keys.refresh):
                _log.info("the keys changed")
            desired.refresh()
            changed = desired.current.generation != routes.generation
            if changed or now - looked >= _LOOK_SECONDS:
                looked = now
                held, routes.context = await served_with_context(session, settings.upstream)
                heard = time.monotonic()
                routes.see(held)
                if changed and routes.offer(desired.current, held):
                    metrics.generation.set(routes.generation)
        except InvalidDesired as error:
            problem = str(error)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            problem = f"vLLM does not say what it holds: {error or type(error).__name__}"
            # busy it may take its time to answer; where nobody listens it is gone
            if isinstance(error, aiohttp.ClientConnectorError) or now - heard > _SILENCE_SECONDS:
                routes.see(())
        if problem and problem != told:
            _log.warning("%s", problem)
        told = problem
        await asyncio.sleep(_REFRESH_SECONDS)


if __name__ == "__main__":
    main()
