"""CPU time of our ALFWorld engine next to stock ALFWorld's, on the same games and commands, in one run.

    python -m benchmarks.alfworld_engine                            on generated games
    python -m benchmarks.alfworld_engine --data $ALFWORLD_DATA      on ALFWorld's own

Each engine plays in a process of its own and draws its commands from the admissible ones by the same seed; the digests
of all that they showed must be equal. Ours plays twice: with an empty cache of translations, and with a filled one.
Times are CPU seconds (``time.process_time``), without the imports; other work on the machine hardly changes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from benchmarks.support.figures import Figure, conclude, options

Shown = tuple[str, list[str]]
"""A text and the admissible commands."""


class Stock:
    """ALFWorld as ``AlfredTWEnv`` builds it."""

    def __init__(self) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
        from textworld.envs import PddlEnv

        self._env: Any = AlfredDemangler(PddlEnv(textworld.EnvInfos(admissible_commands=True, won=True)), shuffle=False)

    def load(self, game: Path) -> None:
        """Take another game."""
        self._env.load(str(game))

    def reset(self) -> Shown:
        """Start the game over."""
        state = self._env.reset()
        return state.feedback, state["admissible_commands"]

    def step(self, command: str) -> Shown:
        """Carry out a command."""
        state, _, _ = self._env.step(command)
        return state.feedback, state["admissible_commands"]


class Ours:
    """Distillery's engine."""

    def __init__(self) -> None:
        from distillery_alfworld import engine, games

        self._engine, self._games = engine, games
        self._game: Any = None

    def load(self, game: Path) -> None:
        """Take another game."""
        if self._game:
            self._game.close()
        self._game = self._engine.Game(self._games.read_game(game))

    def reset(self) -> Shown:
        """Start the game over."""
        turn = self._game.reset()
        return turn.text, list(turn.commands)

    def step(self, command: str) -> Shown:
        """Carry out a command."""
        turn = self._game.step(command)
        return turn.text, list(turn.commands)


def measure(engine: Stock | Ours, games: list[Path], steps: int) -> dict[str, Any]:
    """Play each game once; seconds per call, and the digest of all that was shown."""
    spent: dict[str, float] = defaultdict(float)
    shown = hashlib.sha256()

    @contextlib.contextmanager
    def clock(call: str) -> Generator[None, None, None]:
        start = time.process_time()
        yield
        spent[call] += time.process_time() - start

    for number, game in enumerate(games):
        rng = random.Random(number)
        with clock("load"):
            engine.load(game)
        with clock("reset"):
            text, commands = engine.reset()
        for _ in range(steps):
            shown.update(json.dumps([text, commands]).encode())
            command = rng.choice(commands)
            with clock("step"):
                text, commands = engine.step(command)
    calls = {"load": len(games), "reset": len(games), "step": len(games) * steps}
    return {call: spent[call] / calls[call] for call in calls} | {"shown": shown.hexdigest()}


def measure_apart(engine: str, games: list[Path], steps: int, cache: Path) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.alfworld_engine", "--engine", engine, "--steps", str(steps)]
    environment = os.environ | {"DISTILLERY_CACHE": str(cache), "ALFWORLD_DATA": str(cache)}
    done = subprocess.run(
        command,
        input="\n".join(map(str, games)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env=environment,
        cwd=Path(__file__).parents[1],
    )
    return json.loads(done.stdout.splitlines()[-1])


def choose_games(data: Path | None, number: int, scratch: Path) -> tuple[str, list[Path]]:
    """The games, evenly out of all there are, and what to call them."""
    if data is None:
        from distillery_alfworld.environment import ALFWorld

        environment = ALFWorld({"games": "generated"}, scratch)
        environment.prepare({"train": number})
        data, source = scratch, environment.source
    else:
        source = "ALFWorld"
    games = sorted(data.glob("json_2.1.1/*/*/*/game.tw-pddl"))
    return source, games[:: max(1, len(games) // number)][:number]


def report(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The table."""
    yield f"{'CPU ms':<28}{'load':>10}{'reset':>10}{'step':>10}{'steps / CPU s':>16}"
    for name, result in results.items():
        milliseconds = "".join(f"{result[call] * 1e3:10.2f}" for call in ("load", "reset", "step"))
        yield f"{name:<28}{milliseconds}{1 / result['step']:16.0f}"
    for name in ("ours, empty cache", "ours, filled cache"):
        ratios = "".join(f"{results['stock'][call] / results[name][call]:9.0f}x" for call in ("load", "reset", "step"))
        yield f"{'stock / ' + name:<28}{ratios}"


def main() -> None:
    """Run the comparison, or one engine of it."""
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds json_2.1.1; without it, games are generated")
    parser.add_argument("--games", type=int, default=12)
    parser.add_argument("--steps", type=int, default=30, help="in each game")
    parser.add_argument("--engine", choices=("stock", "ours"), help=SUPPRESS)
    arguments = parser.parse_args()
    if arguments.short:
        arguments.games, arguments.steps = 2, 10
    if arguments.engine:
        games = [Path(line) for line in sys.stdin.read().splitlines()]
        engine = Stock() if arguments.engine == "stock" else Ours()
        print(json.dumps(measure(engine, games, arguments.steps)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        source, games = choose_games(arguments.data, arguments.games, Path(scratch) / "games")
        cache = Path(scratch) / "cache"
        cache.mkdir()
        results = {
            "ours, empty cache": measure_apart("ours", games, arguments.steps, cache),
            "ours, filled cache": measure_apart("ours", games, arguments.steps, cache),
            "stock": measure_apart("stock", games, arguments.steps, cache),
        }
    same = len({result["shown"] for result in results.values()}) == 1
    verdict = "equal" if same else "DIFFERENT"
    print(f"{len(games)} games ({source}), {arguments.steps} steps each; texts and commands {verdict}")
    print(*report(results), sep="\n")
    if not same:
        sys.exit(1)
    n = f"{len(games)} games ({source}), {arguments.steps} steps each"
    figures = [
        Figure(f"CPU per step, {name} / stock", results[name]["step"] / results["stock"]["step"], n, most=0.1)
        for name in ("ours, empty cache", "ours, filled cache")
    ]
    conclude("alfworld_engine", figures, arguments, {"source": source, "results": results})


if __name__ == "__main__":
    main()
