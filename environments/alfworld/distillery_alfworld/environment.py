"""The ALFWorld plug-in: household tasks as text games, ALFWorld's own or generated ones."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from distillery.environments.base import EnvironmentConfigurationError, Example, Fact, Observation, Report, Task
from distillery.environments.options import check_names
from distillery_alfworld import facts, games, generated_games, imports, prompts
from distillery_alfworld.actions import normalize_action

if TYPE_CHECKING:
    from distillery_alfworld.engine import Game, Turn

_GOAL = re.compile(r"Your task is to: ([^\n]+)")
_BANNER = "-= Welcome to TextWorld, ALFRED! =-\n\n"


@dataclass(frozen=True)
class Options:
    """``spec.environment.options`` of ALFWorld.

    Attributes:
        games: ``alfworld`` for the games in ``$ALFWORLD_DATA``, ``generated`` for our own, ``auto`` for the former
            where the variable is set and the latter where it isn't.
        seed: which games are generated.
    """

    games: str = "auto"
    seed: int = 0

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Options:
        """Check plain data. Raises :class:`EnvironmentConfigurationError` that names the option."""
        check_names("ALFWorld", options, list(cls.__dataclass_fields__))
        source, seed = options.get("games", cls.games), options.get("seed", cls.seed)
        if source not in ("auto", "alfworld", "generated"):
            raise EnvironmentConfigurationError(
                f"ALFWorld's option games is auto, alfworld or generated, not {source!r}"
            )
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise EnvironmentConfigurationError(f"ALFWorld's option seed is a whole number from 0, not {seed!r}")
        return cls(source, seed)


class ALFWorld:
    """Household tasks in text. See :class:`distillery.environments.base.Environment`."""

    name: ClassVar[str] = "alfworld"
    instructions: str = prompts.INSTRUCTIONS
    verbs: ClassVar[tuple[str, ...]] = prompts.VERBS
    state_keys: ClassVar[tuple[str, ...]] = prompts.STATE_KEYS
    placeholders: ClassVar[tuple[str, ...]] = prompts.PLACEHOLDERS
    thoughts: ClassVar[bool] = True
    held_out_split: ClassVar[str] = "valid_unseen"
    goal_is_task: bool = False

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        """Choose the games by the options and ``$ALFWORLD_DATA``; ``folder`` is where generated ones go."""
        chosen = Options.parse(options)
        data = os.environ.get("ALFWORLD_DATA")
        self._recipe = generated_games.Recipe(seed=chosen.seed)
        self._folder = folder
        self._generated = chosen.games == "generated" or (chosen.games == "auto" and not data)
        self._root = (folder if self._generated else _find_data_folder(data)) / games.LAYOUT

    @property
    def source(self) -> str:
        """``ALFWorld``, or which generated games."""
        return str(self._recipe) if self._generated else "ALFWorld"

    def limit_steps(self, number: int) -> None:
        """Do nothing: the instructions state no limit."""

    def splits(self) -> Mapping[str, int | None]:
        """Return the splits. ALFWorld's own have the number of their games, a few of which can't be won."""
        if self._generated:
            return dict.fromkeys(generated_games.SPLITS)
        return {split: len(games.find_files(self._root, split)) for split in games.list_splits(self._root)}

    def prepare(self, wanted: Mapping[str, int], *, report: Report = lambda done, total: None) -> None:
        """Generate games until each split has ``wanted[split]``; nothing where the games are ALFWorld's own."""
        if self._generated:
            generated_games.prepare_games(self._folder, self._recipe, wanted, report=report)

    def catalog(self, split: str) -> Sequence[Task]:
        """Return the games of a split; generated ones in order of generation, so that more games only add some."""
        if split not in (splits := games.list_splits(self._root)):
            raise EnvironmentConfigurationError(
                f"there is no split {split!r} of {self.source} in {self._root}; "
                + (f"there are {', '.join(splits)}" if splits else "there is none at all: run prepare first")
            )
        try:
            tasks = games.read_catalog(self._root, split)
        except games.UnreadableGameError as error:
            raise EnvironmentConfigurationError(str(error)) from error
        return generated_games.check_games(self._folder, self._recipe, split, tasks) if self._generated else tasks

    def labels(self, task: Task) -> Sequence[str]:
        """Return ``thing:`` with the kind of thing that a game asks for, such as ``thing:mug``."""
        thing = games.read_thing(task.id)
        return (f"thing:{thing}",) if thing else ()

    def load(self) -> None:
        """Load the engine.

        Raises:
            EnvironmentConfigurationError: its packages aren't those that it was proven with.
        """
        imports.require_versions(imports.ENGINE)
        import_module("distillery_alfworld.engine")

    def open(self, task: Task) -> ALFWorldSession:
        """Open a session of one game, once the engine is loaded.

        Raises:
            UnreadableGameError: the game's file is missing or damaged; the message names it.
        """
        from distillery_alfworld.engine import Game

        file = self._root / task.id / games.GAME_FILE
        content = games.read_game(file)
        try:
            return ALFWorldSession(Game(content))
        except (Exception, SystemExit) as error:  # the packages exit, assert and raise all sorts at a broken game
            raise games.UnreadableGameError(f"the game {file} can't be played: {error!r}") from error

    def examples(self, category: str) -> Sequence[Example]:
        """Return two worked examples of each category; none of a category that isn't ALFWorld's."""
        return prompts.read_examples().get(category, ())

    def goal(self, opening: str) -> str:
        """Return the text that follows "Your task is to"."""
        match = _GOAL.search(opening)
        return match[1].rstrip(".") if match else ""

    def read(self, opening: str, turns: Sequence[tuple[str, str]]) -> list[Fact]:
        """Return the facts that an episode shows; see :func:`distillery_alfworld.facts.read`."""
        return facts.read_facts(opening, turns)


def _find_data_folder(data: str | None) -> Path:
    """Return ``$ALFWORLD_DATA``, if ALFWorld's games are there."""
    if not data:
        problem = "$ALFWORLD_DATA isn't set"
    elif not (Path(data) / games.LAYOUT).is_dir():
        problem = f"$ALFWORLD_DATA is {data}, which has no folder {games.LAYOUT}"
    else:
        return Path(data)
    raise EnvironmentConfigurationError(
        f"ALFWorld's own games are wanted, and {problem}: get them by `alfworld-download` and set ALFWORLD_DATA, "
        "or take `games: generated`, which needs no download"
    )


class ALFWorldSession:
    """One game being played. See :class:`distillery.environments.base.Session`."""

    def __init__(self, game: Game) -> None:
        """Play a loaded game."""
        self._game = game

    def reset(self) -> Observation:
        """Start the game over. The opening is the room in one line and the task in the next."""
        turn = self._game.reset()
        return self._to_observation(turn, turn.text.removeprefix(_BANNER).replace("\n\n", "\n"))

    def step(self, action: str) -> Observation:
        """Carry out one action; see :mod:`distillery_alfworld.actions` for what is understood."""
        turn = self._game.step(normalize_action(action))
        return self._to_observation(turn, turn.text)

    def close(self) -> None:
        """Free the engine."""
        self._game.close()

    def _to_observation(self, turn: Turn, text: str) -> Observation:
        return Observation(
            text=text,
            score=float(turn.won),
            done=turn.won,
            success=turn.won,
            valid=turn.accepted,
            admissible=turn.commands,
        )
