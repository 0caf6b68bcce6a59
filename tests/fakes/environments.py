"""A fake environment that misbehaves on command. Registered as ``fake`` by the fixtures of this folder."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from distillery.environments.base import Environment, EnvironmentConfigurationError, Observation, Session, Task


def die() -> Observation:
    os.kill(os.getpid(), signal.SIGKILL)
    return Observation("unreachable")


def hang() -> Observation:
    print("hanging", file=sys.stderr, flush=True)
    while True:
        time.sleep(1)


def fork() -> Observation:
    child = os.fork()
    if not child:
        time.sleep(3600)
        os._exit(0)
    return Observation(str(child))


def work() -> Observation:
    time.sleep(1)
    return Observation("worked")


def printing() -> Observation:
    print("{}")
    os.write(1, b'{"observation": null}\n')
    return Observation("printed")


def fail() -> Observation:
    raise LookupError("no such thing")


def leave() -> Observation:
    raise SystemExit(3)


def interrupt() -> Observation:
    raise KeyboardInterrupt


def misconfigure() -> Observation:
    raise EnvironmentConfigurationError("too late")


def garble() -> Observation:
    raise LookupError("no \ud800 nor \0" + "!" * 5000)


MISBEHAVIOR: dict[str, Callable[[], Observation]] = {
    "die": die,
    "hang": hang,
    "fork": fork,
    "work": work,
    "print": printing,
    "fail": fail,
    "leave": leave,
    "nan": lambda: Observation("a", score=math.nan),
    "surrogate": lambda: Observation("\ud800"),
    "nothing": lambda: cast(Observation, None),
    "long": lambda: Observation("a", admissible=("x" * 900_000,) * 20),
    "interrupt": interrupt,
    "misconfigure": misconfigure,
    "garble": garble,
    "bytes": lambda: Observation(cast(str, b"\xff\xfe")),
    "number": lambda: Observation(cast(str, 3)),
    "huge": lambda: Observation("x" * 2_000_000),
    "nul": lambda: Observation("a\0b"),
    "above": lambda: Observation("a", score=7.0),
    "below": lambda: Observation("a", score=-0.5),
    "word": lambda: Observation("a", score=cast(float, "high")),
    "perhaps": lambda: Observation("a", done=cast(bool, "perhaps")),
    "unlisted": lambda: Observation("a", admissible=cast(tuple[str, ...], None)),
    "solved": lambda: Observation("a", done=True, success=True),
    "half": lambda: Observation("a", done=True, success=True, score=0.5),
    "given up": lambda: Observation("a", done=True),
    "process": lambda: Observation(str(os.getpid())),
    "unicode": lambda: Observation("é\u2028\n日本"),
}


class FakeSession:
    """Counts its steps; ``admissible`` holds the process's id, which replays don't compare."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._steps = 0

    def reset(self) -> Observation:
        self._steps = 0
        return replace(MISBEHAVIOR.get(self._task.goal, lambda: Observation(self._task.id))(), admissible=self._mark())

    def step(self, action: str) -> Observation:
        self._steps += 1
        if action in MISBEHAVIOR:
            return MISBEHAVIOR[action]()
        return Observation(f"{self._task.id} {self._steps} {action}", score=0.5, admissible=self._mark())

    def close(self) -> None:
        if self._task.goal == "unclosable":
            raise OSError("can't close")

    def _mark(self) -> tuple[str, ...]:
        return (str(os.getpid()),)


class FakeEnvironment:
    """Offers what :class:`distillery.environments.pool.pool.EnvironmentPool` needs of an environment."""

    name = "fake"

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self.concurrent = bool(options.get("concurrent"))
        if options.get("broken") == "configuration":
            raise EnvironmentConfigurationError("the option broken is no good")
        if options.get("broken") == "constructor":
            raise ZeroDivisionError("oh")
        if options.get("broken") == "death":
            die()

    def catalog(self, split: str) -> Sequence[Task]:
        return [Task(f"{split}/{number}", split, "count", "count") for number in range(10)]

    def load(self) -> None: ...

    def open(self, task: Task) -> FakeSession:
        if task.goal == "missing":
            raise FileNotFoundError("game.tw-pddl")
        return FakeSession(task)


class Counted(Environment):
    """Has nothing to prepare, one split, and a wrong choice of the other; its session answers a reset with a text."""

    name = "counted"
    instructions = "Count."
    held_out_split = "held"

    def catalog(self, split: str) -> Sequence[Task]:
        if split != "train":
            raise EnvironmentConfigurationError(f"there is no split {split!r}; there is train")
        return [Task(f"{split}/{number}", split, "count", "count") for number in range(10)]

    def open(self, task: Task) -> Session:
        return cast(Session, TextSession(task))


class TextSession(FakeSession):
    """Forgets to make an observation."""

    def reset(self) -> Observation:
        return cast(Observation, "how many?")
