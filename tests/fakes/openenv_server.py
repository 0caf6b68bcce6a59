"""A real OpenEnv server with small environments, for the interpreter that has ``openenv``; prints its port.

python openenv_server.py ENVIRONMENT SESSIONS PORT [TOKEN]
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import time
from typing import Any

import uvicorn
from openenv.core.env_server import Action, Environment, Observation, State, create_app


class Text(Action):
    command: str


class Shown(Observation):
    text: str


class Move(Action):
    x: int
    y: int
    why: str = ""


class Board(Observation):
    cells: list[str]
    turn: int


class Guess(Environment):
    """Guess a number from 1 to 9."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._low = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None, **rest: Any) -> Shown:
        drawn = random.Random(seed)
        self._low, self._number = drawn.randint(1, 90), drawn.randint(1, 9)
        return Shown(text=f"Guess a number from {self._low + 1} to {self._low + 9}.")

    def step(self, action: Text, timeout_s: float | None = None, **rest: Any) -> Shown:
        try:
            guess = int(action.command) - self._low
        except ValueError:
            return Shown(text="That is no number.", reward=0.0)
        if guess == self._number:
            return Shown(text="Right!", reward=1.0, done=True)
        return Shown(text="Higher." if guess < self._number else "Lower.", reward=0.0)

    @property
    def state(self) -> State:
        return State()


class Unseeded(Guess):
    """Draws its number without the seed."""

    def reset(self, **rest: Any) -> Shown:
        return super().reset(seed=int.from_bytes(os.urandom(4)))


class Capitals(Environment):
    """Say the capital of a country."""

    SUPPORTS_CONCURRENT_SESSIONS = True
    TASKS = {
        "train": [("France", "Paris", "europe"), ("Peru", "Lima", "america"), ("Kenya", "Nairobi", "africa")] * 250,
        "test": [("Chile", "Santiago", "america"), ("Ghana", "Accra", "africa")],
    }

    def __init__(self) -> None:
        super().__init__()
        self._answer = ""

    def list_splits(self) -> list[str]:
        return list(self.TASKS)

    def num_tasks(self, split: str) -> int:
        return len(self.TASKS[split])

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        country, _, continent = self.TASKS[split][index]
        return {"index": index, "question": f"Name the capital of {country}.", "continent": continent}

    def get_task_range(self, split: str, start: int | None = None, stop: int | None = None) -> list[dict[str, Any]]:
        return [self.get_task(split, index) for index in range(len(self.TASKS[split]))[start:stop]]

    def list_tasks(self, split: str) -> list[dict[str, Any]]:
        return self.get_task_range(split)

    def reset(self, seed: int | None = None, split: str = "train", index: int = 0, **rest: Any) -> Shown:
        country, self._answer, _ = self.TASKS[split][index]
        return Shown(text=f"Name the capital of {country}.")

    def step(self, action: Text, timeout_s: float | None = None, **rest: Any) -> Shown:
        right = action.command == self._answer
        return Shown(text="Right." if right else "Wrong.", reward=2.0 if right else -1.0, done=True)

    @property
    def state(self) -> State:
        return State()


class Squares(Environment):
    """Take squares of a board."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self) -> None:
        super().__init__()
        self._cells = ["."] * 4

    def reset(self, seed: int | None = None, **rest: Any) -> Board:
        self._cells = ["."] * 4
        return Board(cells=list(self._cells), turn=0)

    def step(self, action: Move, timeout_s: float | None = None, **rest: Any) -> Board:
        self._cells[2 * action.y + action.x] = "x"
        taken = self._cells.count("x")
        return Board(cells=list(self._cells), turn=taken, reward=1.0, done=taken == 4)

    @property
    def state(self) -> State:
        return State()


class Slow(Guess):
    """Takes its time, and tells how many were in it at once."""

    inside = 0

    def step(self, action: Text, timeout_s: float | None = None, **rest: Any) -> Shown:
        Slow.inside += 1
        most = Slow.inside
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            most = max(most, Slow.inside)
            time.sleep(0.01)
        Slow.inside -= 1
        return Shown(text=str(most), reward=0.0)


class Liar(Guess):
    """Misbehaves on command."""

    def step(self, action: Text, timeout_s: float | None = None, **rest: Any) -> Shown:
        match action.command:
            case "raise":
                raise RuntimeError("the engine broke")
            case "much":
                return Shown(text="a", reward=7.0)
            case "huge":
                return Shown(text="x" * 20_000_000)
            case "nul":
                return Shown(text="a\0b")
            case "exit":
                os._exit(3)
            case "hang":
                asyncio.run(asyncio.sleep(600))
        return super().step(action)


class Guarded:
    """Lets those in who show the token, on both protocols."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._header = (b"authorization", f"Bearer {token}".encode())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or self._header in scope["headers"]:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before it is accepted, which uvicorn answers with 403
        else:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})


KINDS: dict[str, tuple[type[Environment], type[Action], type[Observation]]] = {
    "guess": (Guess, Text, Shown),
    "unseeded": (Unseeded, Text, Shown),
    "capitals": (Capitals, Text, Shown),
    "squares": (Squares, Move, Board),
    "slow": (Slow, Text, Shown),
    "liar": (Liar, Text, Shown),
}


def main() -> None:
    kind, action, observation = KINDS[sys.argv[1]]
    app: Any = create_app(kind, action, observation, max_concurrent_envs=int(sys.argv[2]))
    if sys.argv[4:]:
        app = Guarded(app, sys.argv[4])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws_ping_interval=1.0, ws_ping_timeout=2.0))
    with socket.create_server(("127.0.0.1", int(sys.argv[3]))) as listening:
        print(listening.getsockname()[1], flush=True)
        server.run(sockets=[listening])


if __name__ == "__main__":
    main()
