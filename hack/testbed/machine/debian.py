"""Debian packages that the node and the images need, installed when one is missing."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterable

from hack.testbed.errors import ClusterError

# The command by which a package is recognized; a look at PATH takes microseconds, a question to dpkg does not.
_PACKAGES = {
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "socat": "socat",  # the kubelet forwards ports with it
    "openssl": "openssl",
    "sysctl": "procps",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "gcc": "gcc",
    "mount": "mount",
}
API_SERVER = ("ip", "nsenter", "openssl", "sysctl", "unshare", "mount")
"""The commands that an API server without a node takes."""

_log = logging.getLogger(__name__)


def install_missing(commands: Iterable[str] = tuple(_PACKAGES)) -> None:
    """Install the packages of those commands that aren't there.

    Raises:
        ClusterError: Not root, no Go, or apt-get failed.
    """
    if os.geteuid() != 0:
        raise ClusterError("the node needs root: it makes namespaces, mounts and cgroups")
    if not shutil.which("go"):
        raise ClusterError("the node's programs are built from source: put Go 1.26 or later into PATH")
    missing = sorted({_PACKAGES[command] for command in commands if not shutil.which(command)})
    if "gcc" in missing:
        missing.append("libc6-dev")
    if missing:
        _log.info("installing Debian packages: %s", " ".join(missing))
        _apt_get("update", "-qq")
        _apt_get("install", "-y", "-qq", "--no-install-recommends", *missing)


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"apt-get {' '.join(arguments)} failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
