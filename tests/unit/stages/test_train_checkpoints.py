"""A trainer that is stopped continues elsewhere: where artifacts are in S3, so is its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from distillery.core import plugins
from distillery.core.api import parse
from distillery.core.artifacts import Identity, store_at
from distillery.core.contracts.stage_config import StageConfig
from distillery.core.planner import Kind, Stage, StageId
from distillery.stages import train
from distillery.stages.runtime.context import StageContext
from distillery.stages.runtime.failures import Terminated
from distillery.stages.runtime.progress_server import Status
from distillery.stages.runtime.runner import delete_checkpoints
from distillery.training.lora import Folders, Interrupted
from tests.fakes import s3_server
from tests.unit.documents import document

RUN = parse(document())
IDENTITY = Identity("11111111-2222-3333-4444-555555555555", "a" * 64)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Of a real S3 server."""
    with s3_server.serving(tmp_path_factory.mktemp("s3") / "data") as url, pytest.MonkeyPatch.context() as patch:
        s3_server.give_keys(patch)
        yield url


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One that takes a step at each start and is stopped then. What it found when it started."""
    found: list[str] = []

    class Trainer:
        def __init__(self, settings: Any, *, folders: Folders, **_: Any) -> None:
            self._state = folders.checkpoints / "state.pt"

        def train(self, *_: Any, **__: Any) -> None:
            found.append(self._state.read_text() if self._state.exists() else "")
            self._state.parent.mkdir(parents=True, exist_ok=True)
            self._state.write_text(f"step {len(found)}")
            raise Interrupted("stopped after a step")

    monkeypatch.setattr(plugins, "load", lambda *_: Trainer)
    return found


def pod(place: str, url: str | None, folder: Path) -> StageContext:
    """What a stage works with, in a pod with a folder of its own."""
    stage = Stage(StageId(1, Kind.TRAIN, "distilled"))
    config = StageConfig.of(
        RUN,
        stage,
        identity=IDENTITY,
        server=None,
        store=place,
        cache=folder,
        work=folder / "work",
        outcome=folder / "outcome",
    )
    store = store_at(place, IDENTITY, cache=folder, endpoint_url=url)
    database: Any = None
    return StageContext(config, 1, database, store, Status(config.stage))


async def attempt(context: StageContext) -> None:
    with pytest.raises(Terminated):
        await train._train(context, [], Path("base"), "", context.config.cache)


async def test_preempted_trainer_continues_on_another_node(trainer: list[str], url: str, tmp_path: Path):
    pods: Callable[[str], StageContext] = lambda name: pod(f"s3://{s3_server.BUCKET}/x", url, tmp_path / name)  # noqa: E731
    await attempt(pods("first"))
    second = pods("second")
    await attempt(second)
    assert trainer == ["", "step 1"]
    delete_checkpoints(second)
    assert not second.checkpoints.exists()
    third = pods("third")
    third.store.restore(third.config.stage, third.checkpoints)
    assert not third.checkpoints.exists()


async def test_trainer_continues_on_a_volume_that_stays(trainer: list[str], tmp_path: Path):
    for _ in range(2):
        await attempt(pod((tmp_path / "claim").as_uri(), None, tmp_path))
    assert trainer == ["", "step 1"]
