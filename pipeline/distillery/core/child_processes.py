"""Helpers for starting a process: it does not outlive its parent, even if that is killed, and has a port."""

from __future__ import annotations

import ctypes
import random
import signal
import socket

_PR_SET_PDEATHSIG = 1

_SERVER_PORTS = range(10_240, 30_000)
"""Below the ports that Linux, macOS and RFC 6335 give to outgoing connections, and below Kubernetes' node ports: what
starts later finds its port still free."""


def die_with_parent(sent: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send a signal when the parent process dies (Linux, prctl(2)); for ``preexec_fn`` too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, sent)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on, and that no outgoing connection takes."""
    ports = random.sample(_SERVER_PORTS, len(_SERVER_PORTS))
    try:
        return next(port for port in ports if is_free(port))
    except StopIteration:
        raise OSError(f"all ports of 127.0.0.1 from {_SERVER_PORTS[0]} to {_SERVER_PORTS[-1]} are taken") from None


def is_free(port: int) -> bool:
    """Return whether nobody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what only waits for late packets does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
