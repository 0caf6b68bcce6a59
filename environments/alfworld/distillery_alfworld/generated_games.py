"""Our own games on disk, for users without ALFWorld's: made in parallel, complete or absent, checked when read.

In the environment's folder::

    json_2.1.1/<split>/<task>/<trial>/   the games, as ALFWorld lays out its own: stock ALFWorld plays them too
    logic/                               domain and grammar, which stock ALFWorld wants next to them
    generated.json                       the marker, written last: which games these are, and their digest

Importing this module imports nothing of ALFWorld's; processes of their own make the games.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from distillery.environments.base import EnvironmentConfigurationError, Report, Task
from distillery_alfworld import imports
from distillery_alfworld.games import GAME_FILE, LAYOUT

VERSION = 1
"""Of the generator: another one's games of the same seed are other games."""

SPLITS = ("train", "valid_seen", "valid_unseen")

_MARKER = "generated.json"
_UNFINISHED = "unfinished"
_MAX_PROCESSES = 8  # each holds 0.1 GB
_REPORT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Recipe:
    """The inputs that decide the games: the same recipe, split and index give the same bytes."""

    seed: int
    version: int = VERSION

    def __str__(self) -> str:
        """Return the text that is printed next to every number."""
        return f"generated games (seed {self.seed}, generator v{self.version})"


@dataclass(frozen=True, slots=True)
class _Marker:
    """What a folder holds. ``digest`` is over the ids and the contents of all games that ``counts`` counts."""

    recipe: Recipe
    counts: dict[str, int]
    digest: str


def prepare_games(folder: Path, recipe: Recipe, wanted: Mapping[str, int], *, report: Report) -> None:
    """Make games until each split has ``wanted[split]``. Existing games stay; a killed run is resumed.

    ``report`` is called with (games made, games to make); an exception that it raises ends the work.

    Raises:
        EnvironmentConfigurationError: an unknown split, or a folder that holds games of another recipe or changed ones.
    """
    if unknown := sorted(wanted.keys() - set(SPLITS)):
        raise EnvironmentConfigurationError(
            f"there is no split {unknown[0]!r} of {recipe}; there are {', '.join(SPLITS)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with _lock_folder(folder):
        marker = _read_marker(folder, recipe)
        if marker and marker.digest != _compute_digest(folder, marker.counts):
            raise EnvironmentConfigurationError(f"the games in {folder} were changed after they were made: remove it")
        counts = dict(marker.counts if marker else {})
        counts |= {split: max(count, counts.get(split, 0)) for split, count in wanted.items() if count}
        if marker and counts == marker.counts:
            return
        shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
        (folder / _UNFINISHED).mkdir(exist_ok=True)
        _make_missing(folder, recipe, counts, report)
        marker = _Marker(recipe, counts, _compute_digest(folder, counts))
        _write(folder, _MARKER, json.dumps(asdict(marker), indent=1, sort_keys=True) + "\n")
        shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)


def check_games(folder: Path, recipe: Recipe, split: str, tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks of a split in the order of generation, out of all that its folder holds.

    Raises:
        EnvironmentConfigurationError: ``prepare`` didn't come to its end, or games are missing.
    """
    marker = _read_marker(folder, recipe)
    if marker is None:
        raise EnvironmentConfigurationError(f"the games in {folder} aren't all made: run prepare again")
    count = marker.counts.get(split, 0)
    ordered = sorted((task for task in tasks if _read_index(task.id) < count), key=lambda task: _read_index(task.id))
    if len(ordered) != count:
        raise EnvironmentConfigurationError(
            f"{folder} holds {len(ordered)} of the {count} games of {split} made there: remove it and prepare again"
        )
    return ordered


def _make_missing(folder: Path, recipe: Recipe, counts: Mapping[str, int], report: Report) -> None:
    missing: list[tuple[str, int]] = []
    for split, count in counts.items():
        there = _find_indices(folder, split)
        missing += [(split, index) for index in range(count) if index not in there]
    imports.require_versions(imports.GENERATOR)
    processes = min(os.cpu_count() or 1, _MAX_PROCESSES, len(missing))
    with contextlib.ExitStack() as stack:
        makers = [stack.enter_context(_start_maker(folder, recipe, missing[i::processes])) for i in range(processes)]
        while any(maker.poll() is None for maker in makers):
            report(sum(len(_find_indices(folder, split)) for split in counts), sum(counts.values()))
            time.sleep(_REPORT_SECONDS)
        codes = [maker.wait() for maker in makers]
    if any(codes):
        raise RuntimeError(
            f"games can't be made: a process of the generator ended with exit code {max(codes, key=abs)}"
        )


def _find_indices(folder: Path, split: str) -> set[int]:
    """Return the indices of the games of a split that are there."""
    return {_read_index(game.name) for game in (folder / LAYOUT / split).glob("*/trial_*")}


@contextlib.contextmanager
def _start_maker(
    folder: Path, recipe: Recipe, games: list[tuple[str, int]]
) -> Generator[subprocess.Popen[str], None, None]:
    """Start a process that makes games, and that ends when this one does."""
    with subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"folder": str(folder), "seed": recipe.seed, "games": games}) + "\n")
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def main() -> None:
    """Make the games that the first line of the input asks for. The end of the input is the end of the parent."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
    folder = Path(job["folder"])
    from distillery_alfworld import alfworld_assets, game_generator

    _write(folder, "logic/alfred.pddl", alfworld_assets.DOMAIN)
    _write(folder, "logic/alfred.twl2", alfworld_assets.GRAMMAR)
    for split, index in job["games"]:
        game = game_generator.make_game(job["seed"], split, index)
        partial = _create_folder(folder)
        for name, content in game.files.items():
            (partial / name).write_text(content)
        place = folder / LAYOUT / split / game.folder
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():  # a run that was killed may have ended with this very game: the bytes are the same
            partial.rename(place)


def _read_index(game: str) -> int:
    """Return the index in ``.../trial_<seed>_<index>``."""
    return int(game.rpartition("_")[2])


def _compute_digest(folder: Path, counts: Mapping[str, int]) -> str:
    digest = hashlib.sha256()
    for split, count in sorted(counts.items()):
        for file in sorted((folder / LAYOUT / split).glob(f"*/trial_*/{GAME_FILE}")):
            if _read_index(file.parent.name) < count:
                digest.update(f"{file.relative_to(folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _read_marker(folder: Path, recipe: Recipe) -> _Marker | None:
    """Return the marker; None where none was written. Refuses the games of another recipe."""
    try:
        content = json.loads((folder / _MARKER).read_text())
    except FileNotFoundError:
        return None
    marker = _Marker(Recipe(**content["recipe"]), content["counts"], content["digest"])
    if marker.recipe != recipe:
        raise EnvironmentConfigurationError(
            f"{folder} holds {marker.recipe}, not {recipe}: choose another folder or remove this one"
        )
    return marker


def _write(folder: Path, name: str, text: str) -> None:
    """Write a file as a whole: a reader sees the old one or the new one."""
    partial = _create_folder(folder) / "file"
    partial.write_text(text)
    (folder / name).parent.mkdir(exist_ok=True)
    partial.replace(folder / name)


def _create_folder(folder: Path) -> Path:
    """Create a folder to make something in, which is then moved to its place."""
    created = Path(tempfile.mkdtemp(dir=folder / _UNFINISHED))
    created.chmod(0o755)
    return created


@contextlib.contextmanager
def _lock_folder(folder: Path) -> Generator[None, None, None]:
    """Hold the lock of a folder's preparation. The kernel ends the lock of a process that was killed."""
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
