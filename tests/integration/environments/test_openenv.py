"""The OpenEnv plug-in against the real server of the package ``openenv``, which runs in an environment of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import EnvironmentConfigurationError, Task
from distillery.environments.openenv.environment import OpenEnv
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentFailure, EnvironmentPool
from tests.paths import ROOT

PINS = ROOT / "requirements" / "openenv.txt"


@pytest.fixture(scope="session")
def interpreter() -> Path:
    """The Python that has ``openenv``; installed once for each set of pins."""
    folder = ROOT / "build" / f"openenv-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]}"
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", "-r", PINS]
        subprocess.run(install, check=True)
        done.touch()
    return python


@contextmanager
def server(
    interpreter: Path, environment: str, *, sessions: int = 8, token: str = "", port: int = 0
) -> Generator[dict[str, Any]]:
    """A server on a port (0: a free one), which may want a token; the option that leads to it."""
    command = [interpreter, ROOT / "tests" / "fakes" / "openenv_server.py", environment, str(sessions), str(port)]
    command += [token] if token else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            listens = process.stdout.readline().strip()
            assert listens, "the server didn't start"
            yield {"url": f"http://127.0.0.1:{listens}"}
        finally:
            process.kill()


def pool_of(folder: Path, options: dict[str, Any], *, limit: float = 60, patience: float = 60) -> EnvironmentPool:
    return EnvironmentPool(
        EnvironmentConfig("openenv", options, folder), processes=1, step_timeout=limit, patience=patience
    )


async def test_seeds_are_tasks_when_the_server_lists_no_tasks(interpreter: Path, tmp_path: Path):
    with server(interpreter, "guess") as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 5, "test": 3})
        assert environment.source == f"OpenEnv: Guess 1.0.0 at {options['url']}"
        assert environment.instructions.endswith("Each command is a line of text.")
        train, test = environment.catalog("train"), environment.catalog("test")
        assert (len(train), len(test)) == (5, 3)
        assert len({task.id for task in [*train, *test]}) == 8
        assert all(task.goal.startswith("Guess a number from ") and not task.category for task in train)
        with pytest.raises(EnvironmentConfigurationError, match=r"no split 'dev' .*; there are train, test"):
            environment.catalog("dev")

        async with pool_of(tmp_path, options) as pool:
            session, opening = await pool.open(train[0])
            assert opening.text == f"{train[0].goal}."
            first = int(opening.text.split()[-3])
            assert (await session.step("seven")).text == "That is no number."
            answers = [opening]
            while not answers[-1].done:
                answers.append(await session.step(str(first + len(answers) - 1)))
            assert len(answers) <= 10
            assert (answers[-1].text, answers[-1].score, answers[-1].success) == ("Right!", 1.0, True)
            await session.close()


async def test_tasks_of_the_server_are_played_by_split_and_index(interpreter: Path, tmp_path: Path):
    with server(interpreter, "capitals") as options:
        options |= {"goal": "question", "category": "continent", "rewards": [-1, 2], "verbs": ["say"]}
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 5, "test": 1})
        train = environment.catalog("train")
        assert len(train) == 750  # more than come with one request
        assert (train[1].goal, train[1].category) == ("Name the capital of Peru", "america")
        async with pool_of(tmp_path, options) as pool:
            session, _ = await pool.open(train[1])
            answer = await session.step("Lima")
            assert (answer.score, answer.done, answer.success) == (1.0, True, True)
            session, _ = await pool.open(environment.catalog("test")[1])
            answer = await session.step("Kumasi")
            assert (answer.score, answer.done, answer.success) == (0.0, True, False)


def test_prepare_names_the_field_when_tasks_lack_it(interpreter: Path, tmp_path: Path):
    with server(interpreter, "capitals") as options:
        environment = OpenEnv({**options, "goal": "objective"}, tmp_path)
        with pytest.raises(EnvironmentConfigurationError, match=r"no field objective \(option goal\).*question"):
            environment.prepare({"train": 5, "test": 1})


async def test_action_is_a_json_object_when_it_has_several_fields(interpreter: Path, tmp_path: Path):
    with server(interpreter, "squares") as options:
        options |= {"reward": "sum", "rewards": [0, 4]}
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 1})
        schema = json.loads(environment.instructions.partition("of this schema: ")[2])
        assert list(schema["properties"]) == ["x", "y", "why"]
        async with pool_of(tmp_path, options) as pool:
            session, opening = await pool.open(environment.catalog("train")[0])
            assert json.loads(opening.text) == {"cells": [".", ".", ".", "."], "turn": 0}
            for wrong in ("left", "[1]", '{"x": "far"}'):
                refused = await session.step(wrong)
                assert (refused.valid, refused.text[:24]) == (False, "This is no valid action:")
            steps = [await session.step(json.dumps({"x": x, "y": y})) for x in (0, 1) for y in (0, 1)]
            assert [step.score for step in steps] == [0.25, 0.5, 0.75, 1.0]
            assert steps[-1].success


def test_prepare_refuses_a_server_when_it_ignores_the_seed(interpreter: Path, tmp_path: Path):
    with (
        server(interpreter, "unseeded") as options,
        pytest.raises(EnvironmentConfigurationError, match="two different openings"),
    ):
        OpenEnv(options, tmp_path).prepare({"train": 2})


TOKEN_OPTION = {"tokenSecretRef": {"name": "games", "key": "token"}}


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the Secret's key."""
    path = tmp_path / "secrets" / "games" / "token"
    path.parent.mkdir(parents=True)
    path.write_text("sesame-4711\n")
    monkeypatch.setenv("DISTILLERY_SECRETS", str(tmp_path / "secrets"))
    return path


@pytest.mark.parametrize("kind", ["guess", "capitals"])
async def test_token_opens_the_server_and_is_stored_nowhere(kind: str, interpreter: Path, token: Path, tmp_path: Path):
    folder = tmp_path / "environment"
    folder.mkdir()
    with server(interpreter, kind, token="sesame-4711") as options:
        options |= TOKEN_OPTION | {"rewards": [-1, 2]}
        environment = OpenEnv(options, folder)
        environment.prepare({"train": 2})
        async with pool_of(folder, options) as pool:
            session, opening = await pool.open(environment.catalog("train")[0])
            assert opening.text
            assert (await session.step("x")).valid
            await session.close()
    assert "sesame" not in environment.source + "".join(file.read_text() for file in folder.iterdir())


@pytest.mark.parametrize("shown", ["", "sesame-4712"])
async def test_wrong_token_error_names_the_fix(shown: str, interpreter: Path, token: Path, tmp_path: Path):
    with server(interpreter, "guess", token="sesame-4711") as options:
        OpenEnv(options | TOKEN_OPTION, tmp_path).prepare({"train": 1})
        token.write_text(shown)
        options |= TOKEN_OPTION if shown else {}
        with pytest.raises(EnvironmentConfigurationError, match=r"\(401\); name the token .*tokenSecretRef") as refused:
            OpenEnv(options, tmp_path).prepare({"train": 1})
        assert "sesame" not in str(refused.value)
        async with pool_of(tmp_path, options) as pool:
            with pytest.raises(EnvironmentConfigurationError, match=r"HTTP 403; name the token .*tokenSecretRef"):
                await pool.open(OpenEnv(options, tmp_path).catalog("train")[0])


def test_prepare_refuses_a_server_when_it_is_not_openenv(tmp_path: Path):
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split(" port ")[1].split()[0]
        with pytest.raises(EnvironmentConfigurationError, match=r"/metadata: File not found \(404\)"):
            OpenEnv({"url": f"http://127.0.0.1:{port}"}, tmp_path).prepare({"train": 1})
        process.kill()


async def test_session_stays_open_when_the_client_is_silent(interpreter: Path, tmp_path: Path):
    with server(interpreter, "guess") as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 1})
        async with pool_of(tmp_path, options) as pool:
            session, _ = await pool.open(environment.catalog("train")[0])
            time.sleep(5)  # noqa: ASYNC251 - the server pings each second and hangs up after 2 more without an answer
            assert (await session.step("1")).text == "Higher."


async def test_closed_session_frees_its_place_for_the_next(interpreter: Path, tmp_path: Path):
    with server(interpreter, "guess", sessions=1) as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 3})
        async with pool_of(tmp_path, options) as pool:
            for task in environment.catalog("train"):
                session, opening = await pool.open(task)
                assert opening.text == f"{task.goal}."
                await session.close()


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("raise", "the engine broke"),
        ("much", "the reward is 7, and the option rewards says 0 to 1"),
        ("huge", "1009"),
        ("nul", "NUL character"),
        ("hang", "no answer within 5 s"),
    ],
)
async def test_invalid_answer_fails_one_session(action: str, reason: str, interpreter: Path, tmp_path: Path):
    with server(interpreter, "liar") as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 2})
        first, second = environment.catalog("train")
        async with pool_of(tmp_path, options, limit=5) as pool:
            lying, _ = await pool.open(first)
            honest, _ = await pool.open(second)
            with pytest.raises(EnvironmentFailure, match=reason):
                await lying.step(action)
            assert (await honest.step("x")).text == "That is no number."


async def test_episode_breaks_off_when_the_server_stays_dead(interpreter: Path, tmp_path: Path):
    with server(interpreter, "liar") as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 2})
        async with pool_of(tmp_path, options, patience=0.5) as pool:
            first, second = environment.catalog("train")
            session, _ = await pool.open(first)
            with pytest.raises(EnvironmentFailure, match=r"took no episode: .*\(for 0\.5 s\)"):
                await session.step("exit")
            with pytest.raises(EnvironmentFailure, match=r"took no episode: ConnectionRefused.*\(for 0\.5 s\)"):
                await pool.open(second)
            assert not pool.waiting


async def test_more_episodes_than_room_are_all_played(interpreter: Path, tmp_path: Path):
    with server(interpreter, "guess", sessions=2) as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 6})
        in_play, most = 0, 0

        async def play(pool: EnvironmentPool, task: Task) -> None:
            nonlocal in_play, most
            session, opening = await pool.open(task)
            in_play, most = in_play + 1, max(most, in_play + 1)
            assert opening.text == f"{task.goal}."
            for _ in range(3):
                assert (await session.step("seven")).text == "That is no number."
                await asyncio.sleep(0.05)
            in_play -= 1
            await session.close()

        async with pool_of(tmp_path, options) as pool, asyncio.timeout(120):
            await asyncio.gather(*(play(pool, task) for task in environment.catalog("train")))
        assert most == 2


async def test_episodes_continue_when_the_server_restarts(interpreter: Path, tmp_path: Path):
    with server(interpreter, "guess") as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 3})
        tasks = environment.catalog("train")
        pool = pool_of(tmp_path, options, patience=300)
        await pool.__aenter__()
        opened = [(await pool.open(task))[0] for task in tasks[:2]]
        for session in opened:
            await session.step("seven")
    again = server(interpreter, "guess", port=int(options["url"].rpartition(":")[2]))
    try:  # the server is gone: two are in the middle, one begins
        waiting = [asyncio.create_task(session.step("eight")) for session in opened]
        beginning = asyncio.create_task(pool.open(tasks[2]))
        async with asyncio.timeout(60):
            while not pool.waiting:  # noqa: ASYNC110 - nothing signals it
                await asyncio.sleep(0.05)
        assert not any(task.done() for task in (*waiting, beginning))
        await asyncio.to_thread(again.__enter__)
        assert [answer.text for answer in await asyncio.gather(*waiting)] == ["That is no number."] * 2
        assert (await beginning)[1].text == f"{tasks[2].goal}."
        assert not pool.waiting
    finally:
        await pool.__aexit__(None, None, None)
        again.__exit__(None, None, None)


async def test_sessions_of_one_process_step_concurrently(interpreter: Path, tmp_path: Path):
    with server(interpreter, "slow") as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 8})
        async with pool_of(tmp_path, options) as pool:
            sessions = [(await pool.open(task))[0] for task in environment.catalog("train")]
            answers = await asyncio.gather(*(session.step("7") for session in sessions))
            together = {int(answer.text) for answer in answers}
            assert max(together) >= 4, "most steps of 0.3 s began before the first had ended"


async def test_other_sessions_continue_when_one_step_hangs(interpreter: Path, tmp_path: Path):
    with server(interpreter, "liar") as options:
        environment = OpenEnv(options, tmp_path)
        environment.prepare({"train": 2})
        first, second = environment.catalog("train")
        async with pool_of(tmp_path, options, limit=5) as pool:
            hanging, _ = await pool.open(first)
            honest, _ = await pool.open(second)
            hung = asyncio.create_task(hanging.step("hang"))
            for _ in range(3):
                assert (await honest.step("x")).text == "That is no number."
            assert not hung.done()
            with pytest.raises(EnvironmentFailure, match="no answer within 5 s"):
                await hung
            assert (await honest.step("x")).text == "That is no number.", "its process was not ended"
