"""Our own games: the same for a seed, complete or absent, winnable, and with things where they usually are."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from distillery.environments.base import EnvironmentConfigurationError
from distillery_alfworld import game_generator, preferences
from distillery_alfworld.environment import ALFWorld
from distillery_alfworld.games import CATEGORIES

OPTIONS = {"games": "generated", "seed": 1}


def tree(folder: Path) -> dict[str, bytes]:
    """All games below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("trial_*/*")}


@pytest.fixture
def copy(generated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(generated, tmp_path / "copy"))


Scattered = tuple[game_generator.TaskChoice, dict[str, tuple[str, game_generator.Place]]]


def scattered(split: str, number: int) -> list[Scattered]:
    """Tasks of a split with their things, as the generator lays them, without playing the games."""
    made = []
    for index in range(number):
        rng = random.Random(f"{split} {index}")
        task = game_generator._choose_task(list(CATEGORIES)[index % 6], split, rng)
        if task:
            made.append((task, game_generator._scatter(task, rng)))
    return made


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_seed_gives_the_same_bytes_in_every_process(generated: Path, hash_seed: str) -> None:
    code = """
import hashlib
from distillery_alfworld import game_generator
for split in ("train", "valid_seen", "valid_unseen"):
    for index in range(2):
        game = game_generator.make_game(1, split, index)
        for name, text in game.files.items():
            print(f"{split}/{game.folder}/{name}", hashlib.sha256(text.encode()).hexdigest())
"""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    there = {name: hashlib.sha256(content).hexdigest() for name, content in tree(generated / "json_2.1.1").items()}
    assert len(made.stdout.splitlines()) == 12
    for line in made.stdout.splitlines():
        name, digest = line.split()
        assert there[name] == digest


def test_generator_gives_each_task_type_an_equal_share(generated: Path) -> None:
    environment = ALFWorld(OPTIONS, generated)
    for split, share in (("train", 2), ("valid_seen", 1), ("valid_unseen", 1)):
        categories = Counter(task.category for task in environment.catalog(split))
        assert categories == dict.fromkeys(CATEGORIES.values(), share)


def test_task_belongs_to_one_split() -> None:
    folders = {split: {task.folder for task, _ in scattered(split, 600)} for split in ("train", "valid_seen")}
    assert not folders["train"] & folders["valid_seen"]
    assert min(map(len, folders.values())) > 100


def test_unseen_rooms_are_those_of_alfred() -> None:
    rooms = {split: {task.room.number for task, _ in scattered(split, 300)} for split in ("train", "valid_unseen")}
    assert rooms["valid_unseen"] == {10, 219, 308, 424}
    assert not rooms["train"] & rooms["valid_unseen"]


def test_target_object_does_not_start_at_its_goal() -> None:
    for task, placed in scattered("train", 300):
        assert all(place.kind != task.goal_place for kind, place in placed.values() if kind == task.thing)


def test_rooms_have_the_size_of_real_ones() -> None:
    """The real games have 6 to 54 places, 23 on average, and 11 to 62 things in them, 32 on average."""
    made = scattered("train", 300)
    places = [len(task.room.places) for task, _ in made]
    things = [len(placed) for _, placed in made]
    assert 20 < sum(places) / len(places) < 26
    assert 28 < sum(things) / len(things) < 36


def test_generator_version_keeps_its_games(generated: Path) -> None:
    """If this fails, the generator makes other games than before: it needs a new version, then a new digest here."""
    marker = json.loads((generated / "generated.json").read_text())
    assert marker["recipe"] == {"seed": 1, "version": 1}
    assert marker["digest"].startswith("9608e68fa1603af8")


@pytest.mark.parametrize("split", ["train", "valid_unseen"])
def test_objects_lie_at_their_preferred_places(split: str) -> None:
    expected = observed = total = 0.0
    for task, placed in scattered(split, 600):
        for kind, place in placed.values():
            if kind in (task.thing, "DeskLamp"):
                continue
            weights = {
                holder.kind: preferences.compute_weight(kind, holder.kind) for holder in task.room.find_holders(kind)
            }
            favorite = max(weights, key=lambda place_kind: (weights[place_kind], place_kind))
            expected += weights[favorite] / sum(weights.values())
            observed += place.kind == favorite
            total += 1
    assert observed / total == pytest.approx(expected / total, abs=0.02)
    assert expected / total > 0.5  # favorites are worth knowing


def test_prepare_changes_nothing_when_repeated(generated: Path) -> None:
    marker = generated / "generated.json"
    before = marker.stat().st_mtime_ns
    ALFWorld(OPTIONS, generated).prepare({"train": 12})
    assert marker.stat().st_mtime_ns == before


def test_prepare_keeps_the_first_games_when_more_are_requested(copy: Path) -> None:
    environment = ALFWorld(OPTIONS, copy)
    before = environment.catalog("train")
    environment.prepare({"train": 13})
    after = environment.catalog("train")
    assert after[:12] == before
    assert len(after) == 13


def test_prepare_resumes_when_it_was_killed(generated: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from distillery_alfworld.environment import ALFWorld\n"
        f"ALFWorld({OPTIONS}, pathlib.Path(sys.argv[1])).prepare({{'train': 12}})"
    )
    folder = tmp_path / "games"
    with subprocess.Popen([sys.executable, "-c", code, folder]) as preparing:
        deadline = time.monotonic() + 120
        while not tree(folder):
            assert time.monotonic() < deadline
            assert preparing.poll() is None
            time.sleep(0.02)
        preparing.kill()
    environment = ALFWorld(OPTIONS, folder)
    with pytest.raises(EnvironmentConfigurationError, match="run prepare again"):
        environment.catalog("train")
    environment.prepare({"train": 12})
    whole = tree(generated / "json_2.1.1" / "train")
    assert tree(folder / "json_2.1.1" / "train") == whole
    assert sorted(file.name for file in folder.iterdir()) == [".lock", "generated.json", "json_2.1.1", "logic"]


def test_prepare_refuses_games_when_they_were_changed(copy: Path) -> None:
    game = next((copy / "json_2.1.1" / "train").glob("*/*/game.tw-pddl"))
    game.write_text(game.read_text().replace("solvable", "soluble"))
    with pytest.raises(EnvironmentConfigurationError, match="were changed"):
        ALFWorld(OPTIONS, copy).prepare({"train": 12})


def test_catalog_fails_when_a_game_is_missing(copy: Path) -> None:
    shutil.rmtree(next((copy / "json_2.1.1" / "train").glob("*/*")))
    with pytest.raises(EnvironmentConfigurationError, match=r"11 of .*12 .*train"):
        ALFWorld(OPTIONS, copy).catalog("train")


def test_folder_is_refused_when_its_games_have_another_seed(copy: Path) -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"seed 1.*seed 2"):
        ALFWorld(OPTIONS | {"seed": 2}, copy).prepare({"train": 12})


def test_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"'test'.*valid_unseen"):
        ALFWorld(OPTIONS, tmp_path).prepare({"test": 1})


STOCK = """
import json, os, sys
from pathlib import Path
from alfworld.agents.environment import get_environment
root = os.environ["ALFWORLD_DATA"]
config = {
    "dataset": {"data_path": root + "/json_2.1.1/train", "num_train_games": -1},
    "env": {"goal_desc_human_anns_prob": 0, "task_types": [1, 2, 3, 4, 5, 6], "domain_randomization": False,
            "expert_type": "handcoded"},
    "general": {"training_method": "dqn"},
    "rl": {"training": {"max_nb_steps_per_episode": 50}},
}
games = get_environment("AlfredTWEnv")(config, train_eval="train")
env = games.init_env(batch_size=1)
_, infos = env.reset()
walkthrough = json.loads(Path(infos["extra.gamefile"][0]).read_text())["walkthrough"]
for command in walkthrough:
    _, _, _, infos = env.step([command])
print(json.dumps([games.num_games, infos["won"][0]]))
"""


def test_stock_alfworld_plays_generated_games(generated: Path) -> None:
    environment = os.environ | {"ALFWORLD_DATA": str(generated)}
    played = subprocess.run([sys.executable, "-c", STOCK], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(played.stdout.splitlines()[-1]) == [12, True]
