"""Our engine shows, byte for byte, what stock ALFWorld shows: texts, admissible commands, score and end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distillery_alfworld.engine import Game
from distillery_alfworld.games import read_game
from tests.integration.environments.stock import difference, plays_of, stock_transcripts


def games_of(root: Path, every: int) -> list[Path]:
    return sorted(root.glob("json_2.1.1/*/*/*/game.tw-pddl"))[::every]


def assert_same(games: list[Path], data: Path, random_steps: int) -> None:
    plays = [play for seed, game in enumerate(games) for play in plays_of(game, seed=seed, steps=random_steps)]
    halves = plays[: len(games)], plays[len(games) :]
    with ThreadPoolExecutor(2) as threads:  # they wait for the stock engine's processes
        first, second = threads.map(lambda half: stock_transcripts(half, data=data), halves)
    for play, transcript in zip(plays, [*first, *second], strict=True):
        game = Game(read_game(Path(play["game"])))
        assert len(transcript) == 1 + len(play.get("commands", range(random_steps)))
        assert not difference(play, transcript, game)
        game.close()


def test_real_games_play_as_on_the_stock_engine(real_data: Path) -> None:
    assert_same(games_of(real_data, every=1600), real_data, random_steps=12)


def test_generated_games_play_as_on_the_stock_engine(generated: Path) -> None:
    assert_same(games_of(generated, every=13), generated, random_steps=12)


@pytest.mark.slow
def test_hundred_real_games_play_as_on_the_stock_engine(real_data: Path) -> None:
    """124 games, two plays each: some 15 CPU minutes of the stock engine, on two processes."""
    games = games_of(real_data, every=30)
    assert len(games) >= 100
    assert_same(games, real_data, random_steps=25)
