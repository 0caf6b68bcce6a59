"""Long-running processes that are found again by looking at the machine, not at files about it.

A pid file lies after a crash, a reboot or the reuse of a number, and a killed process can stay a zombie for which
``kill -0`` succeeds. So each component carries a mark in its environment, and what runs is what ``/proc`` shows with
that mark: a zombie has no environment, another process no mark, and there is nothing to clean up.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import signal
import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.errors import ClusterError

_MARK = "DISTILLERY_CLUSTER_COMPONENT"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Component:
    """A process of the node: what to run, and what it was told."""

    name: str
    command: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    """Files that it reads when it starts: another content means another process."""
    enter: tuple[str, ...] = ()
    """A command that replaces itself by ``command``, in the namespace meant for it."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """All of it: nothing is inherited, so the node is the same whoever starts it."""

    @property
    def mark(self) -> str:
        """Its name, and what decides whether a running process is the one that is wanted."""
        told = hashlib.sha256(repr((self.command, sorted(self.environment.items()))).encode())
        for path in self.reads:
            told.update(path.read_bytes())
        return f"{self.name}@{told.hexdigest()[:16]}"


@dataclass(frozen=True)
class Process:
    """A live process, as ``/proc`` shows it."""

    pid: int
    command: tuple[str, ...]
    mark: str
    cgroups: str

    @property
    def program(self) -> str:
        """The name of the program, without its folder."""
        return os.path.basename(self.command[0])


def processes() -> list[Process]:
    """All live processes of the machine that have a command line: no zombies, no threads of the kernel."""
    return list(_scan())


def _scan() -> Generator[Process]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):  # it ended while we looked
            command = (entry / "cmdline").read_bytes()
            if not command:
                continue
            variables = (entry / "environ").read_bytes().split(b"\0")
            mark = next((v.partition(b"=")[2] for v in variables if v.startswith(_MARK.encode() + b"=")), b"")
            words = tuple(word.decode(errors="replace") for word in command.removesuffix(b"\0").split(b"\0"))
            yield Process(int(entry.name), words, mark.decode(), (entry / "cgroup").read_text())


def running(component: Component) -> bool:
    """Whether the process that is wanted, with this command and these files, is alive."""
    return any(p.mark == component.mark and p.command == component.command for p in processes())


def start(component: Component, logs: Path) -> bool:
    """Start it unless it runs; one that was told something else is stopped first. True if it was started."""
    if running(component):
        return False
    stop(component.name)
    log = logs / f"{component.name}.log"
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    environment = {**component.environment, _MARK: component.mark}
    command = [*component.enter, *component.command]
    os.posix_spawnp(
        command[0],
        command,
        environment,
        setsid=True,  # its own session: an interrupted test run doesn't take the node with it
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    _log.debug("started %s", component.name)
    deadline = time.monotonic() + 10
    while not running(component):  # until ``enter`` has replaced itself, nobody could tell that it runs
        if time.monotonic() > deadline:
            raise ClusterError(f"{component.name} does not start; its log ends with:\n{tail(log)}")
        time.sleep(0.01)
    return True


def stop(*names: str, seconds: float = 10) -> None:
    """End all processes of these components, by force those that take longer than ``seconds``."""
    found = [p for p in processes() if p.mark.partition("@")[0] in names]
    # what a component starts inherits its mark; the shims of containers must outlive containerd
    end([p for p in found if not p.program.startswith("containerd-shim")], seconds=seconds)


def end(victims: Iterable[Process], *, seconds: float) -> None:
    """Ask processes to end, wait, and kill what is left; with no seconds to wait, kill at once."""
    handles: dict[int, Process] = {}
    for process in victims:
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(process.pid)
            handles[handle] = process
    try:
        if seconds:
            _signal(handles, signal.SIGTERM)
            _wait(handles, seconds)
        _signal(handles, signal.SIGKILL)
        if left := _wait(handles, 10):
            raise ClusterError(f"can't be killed: {', '.join(handles[handle].program for handle in left)}")
    finally:
        for handle in handles:
            os.close(handle)


def _signal(handles: Iterable[int], number: signal.Signals) -> None:
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _wait(handles: Iterable[int], seconds: float) -> set[int]:
    """Wait for processes to end (a zombie has ended); the handles of those that did not."""
    left = set(handles)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for handle in left:
        poll.register(handle, select.POLLIN)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(remaining * 1000):
            poll.unregister(handle)
            left.discard(handle)
    return left


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(nothing)"
    except FileNotFoundError:
        return "(no log)"
