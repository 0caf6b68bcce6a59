"""The OpenEnv plug-in: its options, and servers that lie. The real server is in tests/integration."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from distillery.environments.base import EnvironmentAway, EnvironmentConfigurationError, Observation, Task
from distillery.environments.openenv import environment as plugin
from distillery.environments.openenv.client import Server
from distillery.environments.openenv.environment import OpenEnv, OpenEnvSession
from distillery.environments.openenv.options import Options

URL = {"url": "http://127.0.0.1:8000"}
TASK = Task("train/seed-7", "train", "", "count")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs the option url"),
        ({"url": "127.0.0.1:8000"}, "option url is a server's, such as"),
        ({"url": 3}, "option url"),
        ({"url": "http://me:secret@example.org"}, "holds a password"),
        ({"url": "http://host:99999"}, "option url"),
        ({**URL, "succes": 1}, "no option 'succes'; did you mean success"),
        ({**URL, "success": 0}, "option success is a number above 0"),
        ({**URL, "success": float("nan")}, "option success"),
        ({**URL, "rewards": [1, 0]}, "the worst reward and then the best"),
        ({**URL, "rewards": [0]}, "option rewards is a list of two numbers"),
        ({**URL, "reward": "mean"}, "option reward is last or sum, not 'mean'"),
        ({**URL, "verbs": "go"}, "option verbs is a list of words"),
        ({**URL, "text": 1}, "option text is a text"),
        ({**URL, "tokenSecretRef": "sesame"}, r"option tokenSecretRef is given by spec\.environment\.tokenSecretRef"),
    ],
)
def test_option_error_names_the_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvironmentConfigurationError, match=message):
        OpenEnv(options, Path())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"openenv's token: secret games, key token: no such file \S+/games/token; put the value there"),
        ("", "secret games, key token, is empty or has characters"),
        ("two\nlines-4711", "secret games, key token, is empty or has characters"),
        ("gehe\u00efm-4711", "secret games, key token, is empty or has characters"),
    ],
)
def test_token_error_does_not_contain_the_token(
    content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILLERY_SECRETS", str(tmp_path))
    (tmp_path / "games").mkdir()
    if content is not None:
        (tmp_path / "games" / "token").write_text(content)
    environment = OpenEnv({**URL, "tokenSecretRef": {"name": "games", "key": "token"}}, tmp_path)
    with pytest.raises(EnvironmentConfigurationError, match=message) as refused:
        environment.prepare({"train": 1})
    assert "4711" not in str(refused.value)


def test_token_is_not_sent_when_the_server_redirects() -> None:
    seen: list[tuple[Any, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            port = self.connection.getsockname()[1]
            seen.append((port, self.headers["Authorization"]))
            self.send_response(200 if port == second.server_port else 302)
            self.send_header("Location", f"http://127.0.0.1:{second.server_port}/")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as first, HTTPServer(("127.0.0.1", 0), Handler) as second:
        for served in (first, second):
            threading.Thread(target=served.handle_request, daemon=True).start()
        Server(f"http://127.0.0.1:{first.server_port}", patience=10, headers={"Authorization": "Bearer a"}).metadata()
        assert seen == [(first.server_port, "Bearer a"), (second.server_port, None)]


def test_environment_reports_that_it_is_not_prepared(tmp_path: Path) -> None:
    environment = OpenEnv(URL, tmp_path)
    assert environment.source == "OpenEnv: not prepared at http://127.0.0.1:8000"
    with pytest.raises(EnvironmentConfigurationError, match="run prepare first"):
        environment.catalog("train")


def test_prepare_fails_when_the_server_is_not_reachable(tmp_path: Path) -> None:
    environment = OpenEnv({"url": "http://127.0.0.1:1"}, tmp_path)
    with pytest.raises(EnvironmentConfigurationError, match=r"http://127\.0\.0\.1:1 can't be used: .*refused"):
        environment.prepare({"train": 1})


def observation(text: Any = "a", *, reward: Any = None, done: Any = False) -> str:
    return json.dumps({"type": "observation", "data": {"observation": {"text": text}, "reward": reward, "done": done}})


@contextmanager
def fake_server(answer: Callable[[dict[str, Any]], str | bytes | None]) -> Generator[dict[str, str]]:
    """A fake OpenEnv server that follows the protocol as far as ``answer`` does; bytes are sent as they are, None hangs
    up."""

    def talk(connection: ServerConnection) -> None:
        for message in connection:
            said = answer(json.loads(message))
            if said is None:
                return
            connection.send(said, text=True)

    with serve(talk, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield {"url": f"ws://127.0.0.1:{server.socket.getsockname()[1]}"}
        server.shutdown()


def session(options: dict[str, Any], **rest: Any) -> OpenEnvSession:
    return OpenEnvSession(Options.parse({**options, **rest}), TASK, action="command", text="text")


def stepping(answer: str | bytes | None) -> Callable[[dict[str, Any]], str | bytes | None]:
    return lambda message: observation("begin") if message["type"] == "reset" else answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("no JSON", "Expecting value"),
        ("[]", r"answered with \[\], not with an object"),
        ('{"type": "observation", "data": []}', "not with an object"),
        ('{"type": "applause", "data": {}}', "message of type 'applause'"),
        ('{"type": "observation", "data": {"observation": "a", "done": false}}', "observation is 'a', not an object"),
        (observation(reward="much"), "reward is 'much', not a number"),
        (observation(reward=1.5), "the reward is 1.5, and the option rewards says 0 to 1"),
        (observation(reward=float("nan")), "the reward is nan"),
        (observation(done="soon"), "done is 'soon', not true or false"),
        (observation(done=None), "done is None"),
        ('{"type": "error", "data": {"message": "broke", "code": "EXECUTION_ERROR"}}', "broke .*EXECUTION_ERROR"),
        (b"\xff\xfe", "1007"),
        (None, "received 1000"),
    ],
)
def test_step_raises_when_the_answer_is_invalid(answer: str | bytes | None, message: str) -> None:
    with fake_server(stepping(answer)) as options:
        played = session(options)
        played.reset()
        with pytest.raises((ValueError, plugin.ServerError, ConnectionClosed), match=message):
            played.step("go")
        played.close()


def test_connection_ends_when_a_message_is_too_long() -> None:
    with fake_server(stepping(observation("x" * 20_000_000))) as options:
        played = session(options)
        played.reset()
        with pytest.raises(ConnectionClosed, match="1009"):
            played.step("go")


def test_score_is_computed_from_rewards() -> None:
    rewards = iter([-1, None, 2.0, True])

    def answer(message: dict[str, Any]) -> str:
        return observation() if message["type"] == "reset" else observation(reward=next(rewards))

    with fake_server(answer) as options:
        played = session(options, reward="sum", rewards=[-1, 3])
        scores = [played.reset().score, *(played.step("go").score for _ in range(4))]
        played.close()
    assert scores == [0, 0, 0, 0.5, 0.75]


@pytest.mark.parametrize(("done", "success"), [(True, True), (False, False)])
def test_success_needs_a_good_score_at_the_end(done: bool, success: bool) -> None:
    with fake_server(stepping(observation(reward=0.8, done=done))) as options:
        played = session(options, success=0.8)
        played.reset()
        assert played.step("go") == Observation("a", score=0.8, done=done, success=success)
        played.close()


FULL = '{"type": "error", "data": {"message": "at capacity", "code": "CAPACITY_REACHED"}}'


def test_reset_raises_away_with_a_fix_when_the_server_is_full() -> None:
    with (
        fake_server(lambda message: FULL) as options,
        pytest.raises(EnvironmentAway, match=r"at capacity .*spec\.rollout\.concurrency"),
    ):
        session(options).reset()


def test_reset_raises_away_when_the_server_is_not_reachable() -> None:
    with pytest.raises(EnvironmentAway, match=r"http://127\.0\.0\.1:1 .*ConnectionRefusedError"):
        session({"url": "http://127.0.0.1:1"}).reset()


def test_waiting_session_ends_when_it_is_closed() -> None:
    stepping_now = threading.Event()

    def answer(message: dict[str, Any]) -> str:
        if message["type"] == "step":
            stepping_now.set()
            threading.Event().wait(20)
        return observation()

    with fake_server(answer) as options:
        played = session(options)
        played.reset()
        ended = list[BaseException]()

        def step() -> None:
            try:
                played.step("go")
            except ConnectionClosed as error:
                ended.append(error)

        thread = threading.Thread(target=step)
        thread.start()
        assert stepping_now.wait(10)
        played.close()
        thread.join(timeout=15)
        assert not thread.is_alive()
        assert len(ended) == 1


@pytest.mark.parametrize(
    ("splits", "options", "expected"),
    [(["train"], {}, True), (["train"], {"goal": "question"}, False), ([], {}, False)],
)
def test_goals_are_tasks_when_the_server_lists_all_of_them(
    splits: list[str], options: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    (tmp_path / "openenv.json").write_text(json.dumps({"splits": splits, "tasks": {}}))
    assert OpenEnv({**URL, **options}, tmp_path).goal_is_task is expected
