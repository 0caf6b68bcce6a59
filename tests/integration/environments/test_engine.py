"""One engine process plays many games: they don't disturb one another, and bad ones are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from distillery_alfworld.engine import Game, Turn
from distillery_alfworld.environment import ALFWorld
from distillery_alfworld.games import UnreadableGameError, read_game


@pytest.fixture
def contents(generated: Path) -> list[dict[str, Any]]:
    return [read_game(file) for file in sorted(generated.glob("json_2.1.1/train/*/*/game.tw-pddl"))[:3]]


def play(game: Game, commands: list[str]) -> list[Turn]:
    return [game.reset(), *(game.step(command) for command in commands)]


def play_alone(content: Mapping[str, Any]) -> list[Turn]:
    game = Game(content)
    try:
        return play(game, content["walkthrough"])
    finally:
        game.close()


def test_walkthrough_wins_with_its_last_command(contents: list[dict[str, Any]]) -> None:
    for content in contents:
        won = [turn.won for turn in play_alone(content)]
        assert won == [False] * (len(won) - 1) + [True]


def test_reset_starts_over(contents: list[dict[str, Any]]) -> None:
    game = Game(contents[0])
    assert play(game, contents[0]["walkthrough"]) == play(game, contents[0]["walkthrough"])
    game.close()


def test_games_keep_their_states_when_played_in_turns(contents: list[dict[str, Any]]) -> None:
    alone = [play_alone(content) for content in contents]
    games = [Game(content) for content in contents]
    together = [[game.reset()] for game in games]
    for step in range(max(len(content["walkthrough"]) for content in contents)):
        for game, content, turns in zip(games, contents, together, strict=True):
            turns += [game.step(command) for command in content["walkthrough"][step : step + 1]]
    assert together == alone
    for game in games:
        game.close()


def test_game_plays_the_same_when_it_reuses_a_planner(contents: list[dict[str, Any]]) -> None:
    first = play_alone(contents[0])
    play_alone(contents[1])
    assert play_alone(contents[0]) == first


def test_engine_changes_nothing_when_a_command_is_not_admissible(contents: list[dict[str, Any]]) -> None:
    game = Game(contents[0])
    before = game.reset()
    after = game.step("take unicorn 1 from desk 1")
    assert (after.text, after.accepted) == ("Nothing happens.", False)
    assert after.commands == before.commands
    game.close()


def damaged(content: dict[str, Any], part: str, old: str, new: str) -> dict[str, Any]:
    assert old in content[part]
    return content | {part: content[part].replace(old, new, 1)}


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (("pddl_problem", "(:goal", "(:goal)"), "PDDL"),
        (("pddl_problem", "(atLocation agent1", "(holds agent1"), "holds"),
        (("grammar", "{o.indefinite", "{open('f') or o.indefinite"), "expression"),
        (("grammar", "holdsany(a:agent)", "dances(a:agent)"), "dances"),
        (
            ("grammar", '\\"open {r}\\"', '\\"open [{r.name | opened(r:receptacle)}]\\"'),
            "depends on what changes: opened",
        ),
    ],
)
def test_engine_refuses_a_game_that_it_does_not_understand(
    generated: Path, tmp_path: Path, damage: tuple[str, str, str], complaint: str
) -> None:
    part, old, new = damage
    file = sorted(generated.glob("json_2.1.1/train/*/*/game.tw-pddl"))[0]
    content = damaged(read_game(file), part, old.replace('\\"', '"'), new.replace('\\"', '"'))
    broken = tmp_path / "json_2.1.1" / file.relative_to(generated / "json_2.1.1")
    broken.parent.mkdir(parents=True)
    broken.write_text(json.dumps(content))
    tasks = ALFWorld({"games": "generated", "seed": 1}, generated).catalog("train")
    (task,) = [task for task in tasks if task.id in str(file)]
    environment = ALFWorld({"games": "generated"}, tmp_path)
    with pytest.raises(UnreadableGameError, match=complaint) as caught:
        environment.open(task)
    assert str(broken) in str(caught.value)
