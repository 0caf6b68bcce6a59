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

from hack.testbed.errors import ClusterError

_MARK = "DISTILLERY_CLUSTER_COMPONENT"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Component:
    """A process of the node: what to run, and its environment and files."""

    name: str
    command: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    """Files that it reads when it starts: another content means another process."""
    enter: tuple[str, ...] = ()
    """A command that replaces itself by ``command``, in the namespace meant for it."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """All of it: nothing is inherited, so the node is the same for every caller."""

    @property
    def mark(self) -> str:
        """Its name, and what decides whether a running process is the one that is wanted."""
        digest = hashlib.sha256(repr((self.command, sorted(self.environment.items()))).encode())
        for path in self.reads:
            digest.update(path.read_bytes())
        return f"{self.name}@{digest.hexdigest()[:16]}"


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
    return not dead([component])


def dead(components: Iterable[Component]) -> list[Component]:
    """Those of which no process, with this command and these files, is alive."""
    live = {(process.mark, process.command) for process in processes()}
    return [component for component in components if (component.mark, component.command) not in live]


def start(component: Component, logs: Path) -> bool:
    """Start it unless it runs; one with other settings is stopped first. True if it was started."""
    if running(component):
        return False
    stop(component.name)
    log = logs / f"{component.name}.log"
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    environment = {**component.environment, _MARK: component.mark}
    command = [*component.enter, *component.command]
    pid = os.posix_spawnp(
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
    while not running(component):  # until ``enter`` has replaced itself, nobody could tell that it runs
        if os.waitpid(pid, os.WNOHANG)[0]:
            raise ClusterError(f"{component.name} does not start; its log ends with:\n{tail(log)}")
        time.sleep(0.01)
    return True


def stop(*names: str) -> None:
    """Kill all processes of these components."""
    found = [p for p in processes() if p.mark.partition("@")[0] in names]
    # what a component starts inherits its mark; the shims of containers must outlive containerd
    kill([p for p in found if not p.program.startswith("containerd-shim")])


def kill(victims: Iterable[Process]) -> None:
    """Kill processes and wait until they have ended.

    None is asked to end first: all of the node survives a crash (that is tested), and a process that was asked and is
    still at it would be taken for one that works if the caller is killed meanwhile.

    Raises:
        ClusterError: One is still there after 10 seconds, as those are that wait for a disk.
    """
    poll, left = select.poll(), dict[int, str]()
    try:
        for process in victims:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(process.pid)
                left[handle] = process.program
                poll.register(handle, select.POLLIN)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while left:
            for handle, _ in poll.poll(1000):  # a zombie has ended, too
                poll.unregister(handle)
                os.close(handle)
                del left[handle]
            if time.monotonic() > deadline:
                raise ClusterError(f"can't be killed: {', '.join(left.values())}")
    finally:
        for handle in left:
            os.close(handle)


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(nothing)"
    except FileNotFoundError:
        return "(no log)"
