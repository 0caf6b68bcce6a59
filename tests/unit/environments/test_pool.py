"""The pool: many sessions in few processes, each failure costing one session."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from distillery.environments.base import EnvironmentConfigurationError, Observation, Task
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentFailure, EnvironmentPool, PooledSession

GENEROUS = 60.0
"""Seconds no honest step takes, however busy the machine is."""

PLAIN = Task("task", "train", "count", "count")


def task_of(goal: str) -> Task:
    return Task("task", "train", "count", goal)


@asynccontextmanager
async def pool_of(processes: int = 1, limit: float = GENEROUS, **options: Any) -> AsyncGenerator[EnvironmentPool, None]:
    async with EnvironmentPool(
        EnvironmentConfig("fake", options, Path()), processes=processes, step_timeout=limit
    ) as pool:
        yield pool


def process_of(observation: Observation) -> int:
    return int(observation.admissible[0])


def runs(process: int) -> bool:
    """Whether a process runs; a zombie, which an init that reaps nothing leaves, doesn't."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except OSError:
        return False


async def wait_until_gone(process: int) -> None:
    deadline = time.monotonic() + GENEROUS
    while runs(process):
        assert time.monotonic() < deadline, f"process {process} still runs"
        await asyncio.sleep(0.05)


async def test_session_answers_in_the_order_of_its_actions() -> None:
    async with pool_of() as pool:
        session, opening = await pool.open(PLAIN)
        texts = [(await session.step(action)).text for action in ("a", "b")]
    assert [opening.text, *texts] == ["task", "task 1 a", "task 2 b"]


async def test_observation_arrives_unchanged() -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(PLAIN)
        observation = await session.step("a")
        assert observation == Observation("task 1 a", score=0.5, admissible=observation.admissible)
        assert (await session.step("unicode")).text == "é\u2028\n日本"


async def test_sessions_are_spread_over_the_processes() -> None:
    async with pool_of(processes=2) as pool:
        processes = [process_of((await pool.open(PLAIN))[1]) for _ in range(4)]
    assert sorted(processes.count(process) for process in set(processes)) == [2, 2]


async def test_closed_session_frees_its_process() -> None:
    async with pool_of(processes=2) as pool:
        first, opening = await pool.open(PLAIN)
        await pool.open(PLAIN)
        await first.close()
        _, next_opening = await pool.open(PLAIN)
    assert process_of(next_opening) == process_of(opening)


async def test_concurrent_sessions_get_their_own_answers() -> None:
    async def play(pool: EnvironmentPool, number: int) -> list[str]:
        session, opening = await pool.open(Task(f"task{number}", "train", "count", "count"))
        texts = [opening.text] + [(await session.step(f"action{step}")).text for step in range(20)]
        await session.close()
        return texts

    async with pool_of(processes=2) as pool:
        played = await asyncio.gather(*(play(pool, number) for number in range(30)))
    for number, texts in enumerate(played):
        assert texts == [f"task{number}"] + [f"task{number} {step + 1} action{step}" for step in range(20)]


async def open_with_neighbor(pool: EnvironmentPool) -> tuple[PooledSession, PooledSession, Observation]:
    """Two sessions in the pool's only process; the second has taken a step."""
    first, _ = await pool.open(PLAIN)
    second, _ = await pool.open(PLAIN)
    return first, second, await second.step("a")


async def assert_continues(neighbor: PooledSession, before: Observation, *, same_process: bool) -> None:
    after = await neighbor.step("b")
    assert after.text == "task 2 b"
    assert (process_of(after) == process_of(before)) == same_process


async def test_only_the_active_session_fails_when_its_process_dies() -> None:
    async with pool_of() as pool:
        first, second, before = await open_with_neighbor(pool)
        with pytest.raises(EnvironmentFailure, match="died: killed by SIGKILL"):
            await first.step("die")
        await assert_continues(second, before, same_process=False)


async def test_no_session_fails_when_an_idle_process_is_killed() -> None:
    async with pool_of() as pool:
        first, second, before = await open_with_neighbor(pool)
        os.kill(process_of(before), signal.SIGKILL)
        await wait_until_gone(process_of(before))
        await asyncio.sleep(0.1)  # the loop learns of it by a signal
        assert (await first.step("a")).text == "task 1 a"
        await assert_continues(second, before, same_process=False)


async def test_only_its_session_fails_when_a_step_hangs() -> None:
    async with pool_of(limit=5) as pool:
        first, second, before = await open_with_neighbor(pool)
        with pytest.raises(EnvironmentFailure, match="no answer within 5 s"):
            await first.step("hang")
        await assert_continues(second, before, same_process=False)


async def test_time_limit_excludes_the_wait_for_other_sessions() -> None:
    async with pool_of(limit=5) as pool:
        sessions = [(await pool.open(PLAIN))[0] for _ in range(7)]
        answers = await asyncio.gather(*(session.step("work") for session in sessions))  # a second each
    assert [answer.text for answer in answers] == ["worked"] * 7


async def test_sessions_of_a_concurrent_environment_run_concurrently() -> None:
    async with pool_of(limit=GENEROUS, concurrent=True) as pool:
        sessions = [(await pool.open(PLAIN))[0] for _ in range(20)]
        began = time.monotonic()
        answers = await asyncio.gather(*(session.step("work") for session in sessions))  # a second each
        assert time.monotonic() - began < 15
    assert [answer.text for answer in answers] == ["worked"] * 20


@pytest.mark.parametrize("cancelled", [False, True])
async def test_process_survives_a_hanging_step_when_concurrent(cancelled: bool) -> None:
    async with pool_of(limit=5, concurrent=True) as pool:
        first, second, before = await open_with_neighbor(pool)
        hanging = asyncio.create_task(first.step("hang"))
        await asyncio.sleep(0.2)
        if cancelled:
            hanging.cancel()
        failure = (await asyncio.gather(hanging, return_exceptions=True))[0]
        if cancelled:
            assert isinstance(failure, asyncio.CancelledError)
        else:
            assert isinstance(failure, EnvironmentFailure)
            assert "no answer within 5" in str(failure)
        await assert_continues(second, before, same_process=True)


@pytest.mark.parametrize(("action", "reason"), [("die", "SIGKILL"), ("hang", "no answer"), ("long", "garbage")])
async def test_queued_requests_are_answered_when_the_process_dies(action: str, reason: str) -> None:
    async with pool_of(limit=5) as pool:
        sessions = [(await pool.open(PLAIN))[0] for _ in range(5)]
        await asyncio.gather(*(session.step("a") for session in sessions))
        steps = (session.step(action if session is sessions[1] else "b") for session in sessions)
        answers = await asyncio.gather(*steps, return_exceptions=True)
    failure = answers.pop(1)
    assert isinstance(failure, EnvironmentFailure)
    assert reason in str(failure)
    assert [answer.text for answer in answers if isinstance(answer, Observation)] == ["task 2 b"] * 4


async def test_no_other_session_fails_when_a_queued_step_is_cancelled() -> None:
    async with pool_of() as pool:
        first, second, before = await open_with_neighbor(pool)
        working, waiting = (asyncio.create_task(session.step("work")) for session in (first, second))
        await asyncio.sleep(0.1)
        waiting.cancel()
        assert (await working).text == "worked"
        assert process_of(before) != process_of(await first.step("a"))


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("fail", "LookupError: no such thing"),
        ("leave", "SystemExit: 3"),
        ("nan", "score is nan, not a number from 0 to 1"),
        ("surrogate", "text is no Unicode text"),
        ("nothing", "None, not with an Observation"),
        ("bytes", r"text is b'\\xff\\xfe', not a str"),
        ("number", "text is 3, not a str"),
        ("huge", "text has 2,000,000 characters"),
        ("nul", "text holds a NUL character"),
        ("above", "score is 7.0"),
        ("below", "score is -0.5"),
        ("word", "score is 'high'"),
        ("perhaps", "done is 'perhaps', not a bool"),
        ("unlisted", "admissible is None"),
        ("misconfigure", "too late"),
        ("garble", r"LookupError: no \? nor \?!{100}"),
    ],
)
async def test_only_its_session_fails_when_an_answer_is_invalid(action: str, reason: str) -> None:
    async with pool_of() as pool:
        first, second, before = await open_with_neighbor(pool)
        with pytest.raises(EnvironmentFailure, match=reason):
            await first.step(action)
        with pytest.raises(EnvironmentFailure, match="lost by an earlier failure"):
            await first.step("a")
        await assert_continues(second, before, same_process=True)


@pytest.mark.parametrize(("action", "score"), [("solved", 1.0), ("half", 0.5), ("given up", 0.0)])
async def test_step_scores_by_success_when_no_score_is_given(action: str, score: float) -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(PLAIN)
        assert (await session.step(action)).score == score


async def test_only_its_session_fails_when_an_answer_is_too_long() -> None:
    async with pool_of() as pool:
        first, second, before = await open_with_neighbor(pool)
        with pytest.raises(EnvironmentFailure, match="garbage"):
            await first.step("long")
        await assert_continues(second, before, same_process=False)


async def test_lost_session_frees_its_process() -> None:
    async with pool_of(processes=2) as pool:
        first, opening = await pool.open(PLAIN)
        await pool.open(PLAIN)
        with pytest.raises(EnvironmentFailure):
            await first.step("fail")
        await first.close()
        _, next_opening = await pool.open(PLAIN)
    assert process_of(next_opening) == process_of(opening)


async def test_only_its_session_fails_when_opening_fails() -> None:
    async with pool_of() as pool:
        with pytest.raises(EnvironmentFailure, match="FileNotFoundError: game"):
            await pool.open(task_of("missing"))
        assert (await pool.open(PLAIN))[1].text == "task"


async def test_output_of_the_environment_does_not_reach_the_protocol() -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(PLAIN)
        assert (await session.step("print")).text == "printed"
        assert (await session.step("a")).text == "task 2 a"


async def test_replay_fails_when_the_environment_is_not_deterministic() -> None:
    async with pool_of() as pool:
        first, second, _ = await open_with_neighbor(pool)
        await second.step("process")
        with pytest.raises(EnvironmentFailure):
            await first.step("die")
        with pytest.raises(EnvironmentFailure, match="isn't deterministic"):
            await second.step("b")


async def test_no_other_session_fails_when_a_step_is_cancelled() -> None:
    async with pool_of() as pool:
        first, second, before = await open_with_neighbor(pool)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await first.step("hang")
        await first.close()
        await assert_continues(second, before, same_process=False)


async def test_no_session_fails_when_another_cannot_be_closed() -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(task_of("unclosable"))
        await session.close()
        assert (await pool.open(PLAIN))[1].text == "task"


async def test_close_does_nothing_when_repeated() -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(PLAIN)
        await session.close()
        await session.close()


async def test_pool_ends_its_processes_on_exit() -> None:
    async with pool_of(processes=2) as pool:
        processes = [process_of((await pool.open(PLAIN))[1]) for _ in range(2)]
    assert not any(map(runs, processes))


async def test_pool_exits_when_a_child_holds_the_output() -> None:
    async with asyncio.timeout(GENEROUS):
        async with pool_of() as pool:
            session, opening = await pool.open(PLAIN)
            child = int((await session.step("fork")).text)
        assert not runs(process_of(opening))
        os.kill(child, signal.SIGKILL)


async def test_pool_raises_a_configuration_error_when_options_are_refused() -> None:
    with pytest.raises(EnvironmentConfigurationError, match="the option broken is no good"):
        async with pool_of(broken="configuration"):
            pass


async def test_configuration_error_lists_the_environments_when_unknown() -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"'nethack'.*known:.*fake"):
        async with EnvironmentPool(EnvironmentConfig("nethack", {}, Path()), processes=1, step_timeout=GENEROUS):
            pass


@pytest.mark.parametrize(("broken", "reason"), [("constructor", "ZeroDivisionError: oh"), ("death", "SIGKILL")])
async def test_pool_raises_a_failure_when_building_breaks(broken: str, reason: str) -> None:
    with pytest.raises(EnvironmentFailure, match=reason):
        async with pool_of(processes=2, broken=broken):
            pass


ORPHANING = """
import asyncio, sys
from pathlib import Path
from distillery.environments.base import Task
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentPool

async def main():
    async with EnvironmentPool(EnvironmentConfig("fake", {}, Path()), processes=1, step_timeout=1000) as pool:
        session, opening = await pool.open(Task("task", "train", "count", "count"))
        print(opening.admissible[0], flush=True)
        await session.step(sys.argv[1])
        sys.stdin.read()

asyncio.run(main())
"""


@pytest.mark.parametrize("action", ["a", "hang"])
def test_workers_end_when_the_parent_is_killed(action: str) -> None:
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", ORPHANING, action], **pipes) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        worker = int(parent.stdout.readline())
        if action == "hang":
            assert b"hanging" in parent.stderr.readline()
        assert runs(worker)
        parent.kill()
    asyncio.run(wait_until_gone(worker))


def test_pool_runs_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def play() -> None:
        async with pool_of() as pool:
            first, second, before = await open_with_neighbor(pool)
            with pytest.raises(EnvironmentFailure, match="SIGKILL"):
                await first.step("die")
            await assert_continues(second, before, same_process=False)

    uvloop.run(play())
