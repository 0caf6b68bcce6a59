"""The gateway's settings, from environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from distillery.core.settings import (
    EnvironmentSettings,
    parse_boolean,
    parse_integer,
    parse_json_list,
    parse_json_object,
    parse_names,
    parse_number,
    strip_slash,
    variable,
)
from distillery_gateway.auth.rate_limits import Limits
from distillery_gateway.capture.expressions import compile_expression


def _parse_denied(text: str) -> frozenset[str]:
    return frozenset(parse_names(text))


def _parse_limits(text: str) -> Limits:
    return parse_limits(parse_json_object(text))


def _parse_expressions(text: str) -> tuple[str, ...]:
    try:
        return tuple(compile_expression(pattern).pattern for pattern in parse_json_list(text))
    except TypeError as error:
        raise ValueError(f"write a JSON list of strings: {error}") from error


@dataclass(frozen=True, slots=True)
class Settings(EnvironmentSettings):
    """The gateway's settings.

    Attributes:
        upstream: URL of the pod's vLLM.
        port: for clients.
        admin_port: for /healthz, /readyz, /upstream, /metrics and /state.
        routing_file: file with the routing document.
        api_keys: folder with keys; without it requests need no key.
        denied: parameters that are refused.
        limits: as a JSON object with the fields of ``Limits``, such as maxBodyBytes or maxTokens.
        capture: folder for records of sessions; without it no session is captured.
        redact: expressions whose matches are redacted.
        hang_seconds: the time without any progress after which vLLM is considered to hang.
        per_key_limits: false where other gateways, which hold keys to their limits, send all requests.
    """

    upstream: str = field(default="http://127.0.0.1:8001", metadata=variable("DISTILLERY_UPSTREAM_URL", strip_slash))
    port: int = field(default=8000, metadata=variable("DISTILLERY_PORT", parse_integer))
    admin_port: int = field(default=8002, metadata=variable("DISTILLERY_ADMIN_PORT", parse_integer))
    routing_file: Path = field(
        default=Path("/etc/distillery/desired/desired"), metadata=variable("DISTILLERY_ROUTING_FILE", Path)
    )
    api_keys: Path | None = field(default=None, metadata=variable("DISTILLERY_API_KEYS_DIR", Path))
    denied: frozenset[str] = field(
        default=frozenset(), metadata=variable("DISTILLERY_DENIED_PARAMETERS", _parse_denied)
    )
    limits: Limits = field(default_factory=Limits, metadata=variable("DISTILLERY_LIMITS", _parse_limits))
    capture: Path | None = field(default=None, metadata=variable("DISTILLERY_CAPTURE_DIR", Path))
    redact: tuple[str, ...] = field(default=(), metadata=variable("DISTILLERY_REDACT_PATTERNS", _parse_expressions))
    hang_seconds: float = field(default=120.0, metadata=variable("DISTILLERY_HANG_SECONDS", parse_number))
    per_key_limits: bool = field(default=True, metadata=variable("DISTILLERY_PER_KEY_LIMITS", parse_boolean))


def parse_limits(document: Mapping[str, Any]) -> Limits:
    """Return the limits of a JSON object. Raises ValueError for an unknown name."""
    names = {_camel_case(field.name): field.name for field in fields(Limits)}
    unknown = document.keys() - names.keys()
    if unknown:
        raise ValueError(f"unknown {sorted(unknown)[0]}; known: {', '.join(names)}")
    return Limits(**{names[name]: value for name, value in document.items()})


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.title() for part in others)
