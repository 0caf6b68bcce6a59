"""Plays games on stock ALFWorld, in a process where nothing of ours is imported, and writes down all that it shows.

    python stock_player.py < plays > transcripts

A play is a JSON line: ``{"game": path, "commands": [...]}`` carries out the commands; ``{"game": path, "seed": N,
"steps": M}`` draws M commands, most of them admissible. A transcript is a JSON line: a list of [command, text,
admissible commands, score, done], of which the first, without a command, is the reset.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections.abc import Callable
from typing import Any

import textworld
from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
from textworld.envs import PddlEnv

INVALID = ["take unicorn 1 from desk 1", "go to nowhere 7", "", "open", "heat mug 1", "examine", "put x in y"]


def play(env: Any, first: list[Any], choose: Callable[[int, list[str]], str | None]) -> list[list[Any]]:
    """Carry out what ``choose`` chooses, given the number of the step and the admissible commands."""
    transcript = [first]
    for step in range(10_000):
        command = choose(step, transcript[-1][2])
        if command is None:
            break
        state, score, done = env.step(command)
        transcript.append([command, state.feedback, state["admissible_commands"], score, done])
    return transcript


def drawn(seed: int, steps: int) -> Callable[[int, list[str]], str | None]:
    """Random commands: of six, five are admissible now, and the sixth was admissible once or never is."""
    rng = random.Random(seed)
    known: list[str] = list(INVALID)

    def choose(step: int, admissible: list[str]) -> str | None:
        known.extend(command for command in admissible if command not in known)
        return None if step == steps else rng.choice(admissible if rng.random() < 5 / 6 else known)

    return choose


def main() -> None:
    """Serve the plays on standard input."""
    infos = textworld.EnvInfos(admissible_commands=True, won=True)
    env = AlfredDemangler(PddlEnv(infos), shuffle=False)
    loaded = ""
    for line in sys.stdin:
        request = json.loads(line)
        with contextlib.redirect_stderr(None):
            if request["game"] != loaded:
                loaded = request["game"]
                env.load(loaded)
            state = env.reset()
        if "commands" in request:
            commands = [*request["commands"], None]
            chosen: Callable[[int, list[str]], str | None] = lambda step, _, commands=commands: commands[step]  # noqa: E731
        else:
            chosen = drawn(request["seed"], request["steps"])
        first = [None, state.feedback, state["admissible_commands"], 0, False]
        print(json.dumps(play(env, first, chosen)), flush=True)


if __name__ == "__main__":
    main()
