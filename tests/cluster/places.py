"""Where the node keeps what it keeps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

RUN = Path("/run/distillery-cluster")
"""Sockets, pid files and mounts: what does not outlive a boot. Short, for a socket's path may have 107 bytes."""


@dataclass(frozen=True)
class Places:
    """The folders of the node below one root.

    ``programs`` and ``buildah`` are caches, which ``wipe`` leaves alone; the others are the state of the node.
    """

    root: Path

    @classmethod
    def from_environment(cls) -> Places:
        """The folder that ``$DISTILLERY_CLUSTER`` names, or the usual one."""
        return cls(Path(os.environ.get("DISTILLERY_CLUSTER", "/var/lib/distillery-cluster")))

    @property
    def programs(self) -> Path:
        return self.root / "programs"

    @property
    def bin(self) -> Path:
        return self.root / "bin"
