"""A network namespace for the node, joined to the machine by one pair of virtual interfaces.

All that the node does to firewalls and routes happens inside; the machine itself gets one interface, and routes to
the node, its pods and its services through it. What comes from there is not forwarded, so pods reach nothing beyond
the machine.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from hack.testbed.errors import ClusterError
from hack.testbed.places import HOST_ADDRESS, NODE_ADDRESS, PODS, RUN, SERVICES

NAMESPACE = RUN / "network"
"""A file on which the namespace is mounted: a folder of our own, not the one that ``ip netns`` shares with others."""

ENTER = ("nsenter", f"--net={NAMESPACE}")
"""Put before a command to run it inside, for example a server that pods are to reach at 10.77.0.2."""

_LINK = "distillery0"


def up() -> None:
    """Make the namespace, or do nothing if it is whole."""
    if whole():
        return
    down()
    NAMESPACE.parent.mkdir(parents=True, exist_ok=True)
    NAMESPACE.touch()
    _run("unshare", f"--net={NAMESPACE}", "true")
    _run("ip", "link", "add", _LINK, "type", "veth", "peer", "name", "eth0", "netns", str(NAMESPACE))
    _inside("ip", "link", "set", "lo", "up")
    _inside("ip", "address", "add", f"{NODE_ADDRESS}/30", "dev", "eth0")
    _inside("ip", "link", "set", "eth0", "up")
    _inside("ip", "route", "add", "default", "via", HOST_ADDRESS)
    _inside("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1")
    _run("ip", "address", "add", f"{HOST_ADDRESS}/30", "dev", _LINK)
    _run("ip", "link", "set", _LINK, "up")
    _run("sysctl", "-qw", f"net.ipv4.conf.{_LINK}.forwarding=0")
    for destination in (PODS, SERVICES):
        _run("ip", "route", "replace", destination, "via", NODE_ADDRESS)


def down() -> None:
    """Remove the namespace and the interface; the routes go with it."""
    if Path(f"/sys/class/net/{_LINK}").exists():
        _run("ip", "link", "delete", _LINK)
    while _is_mounted():
        _run("umount", "--lazy", str(NAMESPACE))
    NAMESPACE.unlink(missing_ok=True)


def whole() -> bool:
    """Whether the namespace and both ends of the pair are there: after a reboot the file may be, and nothing else."""
    return _is_mounted() and Path(f"/sys/class/net/{_LINK}").exists()


def _is_mounted() -> bool:
    # without a namespace on it, the file is an ordinary one on the file system of its folder
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return any(mount.split()[1:3] == [str(NAMESPACE), "nsfs"] for mount in mounts)


def _inside(*command: str) -> None:
    _run(*ENTER, *command)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)} failed: {done.stderr.strip()}")
