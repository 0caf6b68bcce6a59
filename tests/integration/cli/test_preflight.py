"""Checks before a run starts, by the real process that runs the plug-ins and by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from distillery.cli.main import main
from distillery.core.api import parse
from distillery.core.contracts.messages import read_text
from distillery.preflight.probe import probe
from tests.fakes.chat_server import FakeServer, completion
from tests.unit.documents import document
from tests.unit.environments.conftest import registered as registered

MICRO = str(Path(__file__).parents[3] / "models" / "micro")


async def answer(_: dict[str, Any]) -> web.Response:
    return completion("green")


async def refuse(_: dict[str, Any]) -> web.Response:
    return web.json_response({"error": {"message": "Unsupported parameter: 'max_tokens'"}}, status=400)


async def test_probe_survives_an_environment_that_kills_its_process():
    run = parse(document(environment={"name": "fake", "options": {"broken": "death"}}))
    found = await probe(run, endpoints=False, play=False)
    assert found.plugins.environment is None
    assert "building it ended its process with code -9" in found.plugins.errors["spec.environment.name"]


async def test_probe_shows_a_reset_that_returns_a_text_when_playing():
    run = parse(document(environment={"name": "counted"}, agent={"name": "plain"}))
    found = await probe(run, endpoints=False, play=True)
    (problem,) = found.problems
    assert problem.path == "spec.environment.name"
    assert "the environment answered with 'how many?', not with an Observation" in problem.fix


async def test_probe_shows_the_prompt_that_the_run_will_send():
    """WebShop's instructions state the limit of steps."""
    shop = {"name": "webshop", "maxSteps": 7, "options": {"catalog": "generated", "products": 50}}
    found = await probe(parse(document(environment=shop, agent={"name": "react"})), endpoints=False, play=True)
    assert found.trial is not None
    assert "You have 7 commands" in "".join(read_text(message) for message in found.trial.prompt)


@pytest.mark.parametrize(("reply", "problems"), [(answer, 0), (refuse, 2)])
async def test_probe_asks_each_endpoint_with_the_runs_parameters(reply: Any, problems: int):
    async with FakeServer(reply) as server:
        endpoint = {"baseURL": server.base_url, "model": "m"}
        models = {"student": {"model": MICRO}, "teacher": {"endpoint": endpoint}, "extractor": {"endpoint": endpoint}}
        run = parse(document(models=models, teacherRollout={"temperature": 0.3}, agent={"maxTokens": 17}))
        found = await probe(run, endpoints=True, play=False)
        teacher, extractor = server.requests
    assert (teacher["temperature"], teacher["max_tokens"], teacher["stop"]) == (0.3, 17, ["\n"])
    assert extractor["response_format"]["type"] == "json_schema"
    assert len(found.problems) == problems
    for problem, role in zip(found.problems, ("teacher", "extractor"), strict=False):
        assert problem.path == f"spec.models.{role}.endpoint"
        assert "Unsupported parameter" in problem.fix


def test_run_registers_nothing_when_it_can_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    home = tmp_path / "home"
    monkeypatch.setenv("DISTILLERY_HOME", str(home))
    path = tmp_path / "run.yaml"
    wrong = document(agent={"name": "raect"}, environment={"name": "alfworl"})
    path.write_text(yaml.safe_dump(wrong))
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path)])
    assert ended.value.code == 78
    errors = capsys.readouterr().err
    assert "did you mean alfworld?" in errors
    assert "did you mean react?" in errors
    assert "model /models/tiny: there is no such folder" in errors
    assert not home.exists()
