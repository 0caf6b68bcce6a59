"""The syncer's settings, from environment variables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from distillery.core.artifacts import Identity
from distillery.core.settings import EnvironmentSettings, parse_integer, strip_slash, variable


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EnvironmentSettings):
    """The syncer's settings.

    Attributes:
        upstream: URL of the pod's vLLM.
        gateway: URL of the gateway's port for probes and the operator.
        routing_file: file with the routing document.
        store_uri: URI of the artifacts of all runs of the name.
        identity: of the run.
        store_endpoint: URL of an S3 server other than AWS's.
        cache: folder for artifacts that come from elsewhere.
        adapters: folder that vLLM sees too.
        port: for /healthz, /readyz and /state.
    """

    upstream: str = field(default="http://127.0.0.1:8001", metadata=variable("DISTILLERY_UPSTREAM_URL", strip_slash))
    gateway: str = field(default="http://127.0.0.1:8002", metadata=variable("DISTILLERY_GATEWAY", strip_slash))
    routing_file: Path = field(
        default=Path("/etc/distillery/desired/desired"), metadata=variable("DISTILLERY_ROUTING_FILE", Path)
    )
    store_uri: str = field(metadata=variable("DISTILLERY_STORE_URI", missing="name the URI of the artifacts"))
    identity: Identity = field(
        metadata=variable("DISTILLERY_IDENTITY", Identity.parse, missing="name the run as UID-DIGEST")
    )
    store_endpoint: str | None = field(default=None, metadata=variable("DISTILLERY_STORE_ENDPOINT_URL"))
    cache: Path = field(default=Path("/artifacts"), metadata=variable("DISTILLERY_CACHE", Path))
    adapters: Path = field(default=Path("/adapters"), metadata=variable("DISTILLERY_ADAPTERS_DIR", Path))
    port: int = field(default=8003, metadata=variable("DISTILLERY_SYNCER_PORT", parse_integer))
