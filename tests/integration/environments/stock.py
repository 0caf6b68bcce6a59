"""Runs :mod:`stock_player` and holds its transcripts against what our engine shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from distillery_alfworld.engine import Game
from distillery_alfworld.games import read_game

AFTER_THE_END = ["look", "inventory", "help", "look at nothing"]


def plays_of(game: Path, *, seed: int, steps: int) -> list[dict[str, Any]]:
    """Two plays of a game: its own walkthrough, a little beyond the end, and a random one."""
    walkthrough = [*read_game(game)["walkthrough"], *AFTER_THE_END]
    return [{"game": str(game), "commands": walkthrough}, {"game": str(game), "seed": seed, "steps": steps}]


def stock_transcripts(plays: list[dict[str, Any]], *, data: Path) -> list[list[list[Any]]]:
    """What stock ALFWorld shows."""
    lines = "".join(json.dumps(play) + "\n" for play in plays)
    player = Path(__file__).with_name("stock_player.py")
    environment = os.environ | {"ALFWORLD_DATA": str(data)}
    done = subprocess.run(
        [sys.executable, player], input=lines, stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def difference(play: dict[str, Any], transcript: list[list[Any]], game: Game) -> str:
    """The first difference between a stock transcript and our engine's answers; empty where there is none."""
    for number, (command, *stock) in enumerate(transcript):
        turn = game.reset() if command is None else game.step(command)
        ours = [turn.text, list(turn.commands), int(turn.won), turn.won]
        if ours != stock:
            return f"{play['game']}, step {number}, {command!r}:\nstock {stock}\nours  {ours}"
    return ""
