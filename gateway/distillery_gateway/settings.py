"""The gateway's settings, from environment variables.

DISTILLERY_UPSTREAM_URL       URL of the pod's vLLM                          http://127.0.0.1:8001
DISTILLERY_PORT               port for clients                               8000
DISTILLERY_ADMIN_PORT         /healthz, /readyz, /metrics, /state            8002
DISTILLERY_ROUTING_FILE       file with the routing document                 /etc/distillery/desired/desired
DISTILLERY_API_KEYS_DIR       folder with keys; without it requests need no key
DISTILLERY_DENIED_PARAMETERS  parameters that are refused, with commas
DISTILLERY_CAPTURE_DIR        folder for records of sessions; without it no session is captured
DISTILLERY_REDACT_PATTERNS    JSON: expressions whose matches are redacted
DISTILLERY_HANG_SECONDS       without any progress after which vLLM is considered to hang      120
DISTILLERY_PER_KEY_LIMITS     false where other gateways, which hold keys to their limits, send all requests      true
DISTILLERY_LIMITS             JSON: the fields of limits.Limits, as maxBodyBytes, maxTokens or maxConnectionsPerAddress
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from distillery_gateway.auth.rate_limits import Limits
from distillery_gateway.capture.expressions import InvalidExpression, compile_expression


@dataclass(frozen=True, slots=True)
class Settings:
    """The gateway's settings. See the module."""

    upstream: str = "http://127.0.0.1:8001"
    port: int = 8000
    admin_port: int = 8002
    routing_file: Path = Path("/etc/distillery/desired/desired")
    api_keys: Path | None = None
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
                routing_file=Path(get("DISTILLERY_ROUTING_FILE") or default.routing_file),
                api_keys=_folder(get("DISTILLERY_API_KEYS_DIR")),
                denied=frozenset(filter(None, get("DISTILLERY_DENIED_PARAMETERS", "").split(","))),
                limits=parse_limits(json.loads(get("DISTILLERY_LIMITS") or "{}")),
                capture=_folder(get("DISTILLERY_CAPTURE_DIR")),
                hang_seconds=float(get("DISTILLERY_HANG_SECONDS") or default.hang_seconds),
                per_key_limits=get("DISTILLERY_PER_KEY_LIMITS", "true") != "false",
                redact=_expressions(json.loads(get("DISTILLERY_REDACT_PATTERNS") or "[]")),
            )
        except (ValueError, TypeError) as error:
            raise ValueError(f"a variable of the gateway is wrong: {error}") from error


def parse_limits(document: Mapping[str, Any]) -> Limits:
    """Return the limits of a JSON object. Raises ValueError for an unknown name."""
    names = {_camel_case(field.name): field.name for field in fields(Limits)}
    unknown = document.keys() - names.keys()
    if unknown:
        raise ValueError(f"DISTILLERY_LIMITS: unknown {sorted(unknown)[0]}; known: {', '.join(names)}")
    return Limits(**{names[name]: value for name, value in document.items()})


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.title() for part in others)


def _folder(path: str | None) -> Path | None:
    return Path(path) if path else None


def _expressions(patterns: Any) -> tuple[str, ...]:
    try:
        return tuple(compile_expression(pattern).pattern for pattern in patterns)
    except InvalidExpression as error:
        raise ValueError(f"DISTILLERY_REDACT_PATTERNS: {error}") from error
