"""Where the node keeps what it keeps, and the addresses it has."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RUN = Path("/run/distillery-cluster")
"""Sockets, namespaces and mounts: what does not outlive a boot. Short, for a socket's path has 107 bytes at most."""

HOST_ADDRESS = "10.77.0.1"
NODE_ADDRESS = "10.77.0.2"
PODS = "10.78.0.0/16"
PODS_OF_NODE = "10.78.0.0/24"
SERVICES = "10.79.0.0/16"
API_SERVICE = "10.79.0.1"
DNS_SERVICE = "10.79.0.10"
NODE_NAME = "node"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """The folders of the node below one root.

    Programs and images (``programs``, ``buildah``) are caches, which outlive a ``wipe``; the rest is the node's state.
    """

    root: Path

    @classmethod
    def from_environment(cls) -> Places:
        """The folder that ``$DISTILLERY_CLUSTER`` names, or the usual one."""
        return cls(Path(os.environ.get("DISTILLERY_CLUSTER", "/var/lib/distillery-cluster")))

    @property
    def programs(self) -> Path:
        """The programs that were built here."""
        return self.root / "programs"

    @property
    def bin(self) -> Path:
        """The programs by name; a link for each."""
        return self.root / "bin"

    @property
    def buildah(self) -> Path:
        """The storage of buildah."""
        return self.root / "buildah"

    @property
    def certificates(self) -> Path:
        """Keys and certificates."""
        return self.root / "certificates"

    @property
    def configuration(self) -> Path:
        """The configuration of each program."""
        return self.root / "configuration"

    @property
    def logs(self) -> Path:
        """The log of each program."""
        return self.root / "logs"

    @property
    def audit_log(self) -> Path:
        """The audit log of the API server."""
        return self.logs / "audit.log"

    @property
    def volumes(self) -> Path:
        """The volumes that were provisioned."""
        return self.root / "volumes"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.configuration / "admin.kubeconfig"

    def state(self, component: str) -> Path:
        """The folder in which etcd, the kubelet, containerd or the registry keeps its state."""
        return self.root / "state" / component

    def program(self, name: str) -> str:
        """The path of a built program; it changes when the program does."""
        return str((self.bin / name).resolve())

    @contextmanager
    def lock(self, what: Literal["node", "build"]) -> Generator[None]:
        """Hold the node, or the making of images, against other processes; who needs both takes the node first."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f"{what}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _log.info("waiting for another command that holds the %s", what)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
