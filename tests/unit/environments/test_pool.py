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
from distillery.environments.pool.pool import EnvironmentFailure, EnvironmentPool, PooledSession

GENEROUS = 60.0
"""Seconds no honest step takes, however busy the machine is."""

PLAIN = Task("task", "train", "count", "count")


def task_of(goal: str) -> Task:
    return Task("task", "train", "count", goal)


@asynccontextmanager
async def pool_of(processes: int = 1, limit: float = GENEROUS, **options: Any) -> AsyncGenerator[EnvironmentPool, None]:
    async with EnvironmentPool("fake", options, Path(), processes=processes, step_timeout=limit) as pool:
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


async def test_a_session_answers_in_the_order_of_its_actions() -> None:
    async with pool_of() as pool:
        session, opening = await pool.open(PLAIN)
        texts = [(await session.step(action)).text for action in ("a", "b")]
    assert [opening.text, *texts] == ["task", "task 1 a", "task 2 b"]


async def test_an_observation_arrives_as_it_was_made() -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(PLAIN)
        observation = await session.step("a")
        assert observation == Observation("task 1 a", score=0.5, admissible=observation.admissible)
        assert (await session.step("unicode")).text == "é\u2028\n日本"


async def test_sessions_are_spread_over_the_processes() -> None:
    async with pool_of(processes=2) as pool:
        processes = [process_of((await pool.open(PLAIN))[1]) for _ in range(4)]
    assert sorted(processes.count(process) for process in set(processes)) == [2, 2]


async def test_a_closed_session_makes_room_in_its_process() -> None:
    async with pool_of(processes=2) as pool:
        first, opening = await pool.open(PLAIN)
        await pool.open(PLAIN)
        await first.close()
        _, next_opening = await pool.open(PLAIN)
    assert process_of(next_opening) == process_of(opening)


async def test_many_sessions_play_at_once_without_mixing_up_answers() -> None:
    async def play(pool: EnvironmentPool, number: int) -> list[str]:
        session, opening = await pool.open(Task(f"task{number}", "train", "count", "count"))
        texts = [opening.text] + [(await session.step(f"action{step}")).text for step in range(20)]
        await session.close()
        return texts

    async with pool_of(processes=2) as pool:
        played = await asyncio.gather(*(play(pool, number) for number in range(30)))
    for number, texts in enumerate(played):
        assert texts == [f"task{number}"] + [f"task{number} {step + 1} action{step}" for step in range(20)]


async def with_a_neighbour(pool: EnvironmentPool) -> tuple[PooledSession, PooledSession, Observation]:
    """Two sessions in the pool's only process; the second has taken a step."""
    first, _ = await pool.open(PLAIN)
    second, _ = await pool.open(PLAIN)
    return first, second, await second.step("a")


async def assert_goes_on(neighbour: PooledSession, before: Observation, *, same_process: bool) -> None:
    after = await neighbour.step("b")
    assert after.text == "task 2 b"
    assert (process_of(after) == process_of(before)) == same_process


async def test_a_process_that_dies_costs_only_the_session_that_it_worked_for() -> None:
    async with pool_of() as pool:
        first, second, before = await with_a_neighbour(pool)
        with pytest.raises(EnvironmentFailure, match="died: killed by SIGKILL"):
            await first.step("die")
        await assert_goes_on(second, before, same_process=False)


async def test_a_process_that_is_killed_between_requests_costs_nothing() -> None:
    async with pool_of() as pool:
        first, second, before = await with_a_neighbour(pool)
        os.kill(process_of(before), signal.SIGKILL)
        await wait_until_gone(process_of(before))
        await asyncio.sleep(0.1)  # the loop learns of it by a signal
        assert (await first.step("a")).text == "task 1 a"
        await assert_goes_on(second, before, same_process=False)


async def test_a_step_that_hangs_costs_only_its_session() -> None:
    async with pool_of(limit=5) as pool:
        first, second, before = await with_a_neighbour(pool)
        with pytest.raises(EnvironmentFailure, match="no answer within 5 s"):
            await first.step("hang")
        await assert_goes_on(second, before, same_process=False)


async def test_the_time_limit_does_not_count_the_wait_for_other_sessions() -> None:
    async with pool_of(limit=5) as pool:
        sessions = [(await pool.open(PLAIN))[0] for _ in range(7)]
        answers = await asyncio.gather(*(session.step("work") for session in sessions))  # a second each
    assert [answer.text for answer in answers] == ["worked"] * 7


async def test_sessions_of_a_concurrent_environment_work_at_once() -> None:
    async with pool_of(limit=GENEROUS, concurrent=True) as pool:
        sessions = [(await pool.open(PLAIN))[0] for _ in range(20)]
        began = time.monotonic()
        answers = await asyncio.gather(*(session.step("work") for session in sessions))  # a second each
        assert time.monotonic() - began < 15
    assert [answer.text for answer in answers] == ["worked"] * 20


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_hanging_step_keeps_its_process_when_concurrent(cancelled: bool) -> None:
    async with pool_of(limit=5, concurrent=True) as pool:
        first, second, before = await with_a_neighbour(pool)
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
        await assert_goes_on(second, before, same_process=True)


@pytest.mark.parametrize(("action", "reason"), [("die", "SIGKILL"), ("hang", "no answer"), ("long", "garbage")])
async def test_requests_behind_one_that_takes_its_process_along_are_answered(action: str, reason: str) -> None:
    async with pool_of(limit=5) as pool:
        sessions = [(await pool.open(PLAIN))[0] for _ in range(5)]
        await asyncio.gather(*(session.step("a") for session in sessions))
        steps = (session.step(action if session is sessions[1] else "b") for session in sessions)
        answers = await asyncio.gather(*steps, return_exceptions=True)
    failure = answers.pop(1)
    assert isinstance(failure, EnvironmentFailure)
    assert reason in str(failure)
    assert [answer.text for answer in answers if isinstance(answer, Observation)] == ["task 2 b"] * 4


async def test_a_step_that_is_cancelled_behind_another_costs_no_other_session() -> None:
    async with pool_of() as pool:
        first, second, before = await with_a_neighbour(pool)
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
async def test_an_environment_that_raises_or_answers_nonsense_costs_only_that_session(action: str, reason: str) -> None:
    async with pool_of() as pool:
        first, second, before = await with_a_neighbour(pool)
        with pytest.raises(EnvironmentFailure, match=reason):
            await first.step(action)
        with pytest.raises(EnvironmentFailure, match="lost by an earlier failure"):
            await first.step("a")
        await assert_goes_on(second, before, same_process=True)


@pytest.mark.parametrize(("action", "score"), [("solved", 1.0), ("half", 0.5), ("given up", 0.0)])
async def test_a_step_scores_by_success_when_no_score_is_given(action: str, score: float) -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(PLAIN)
        assert (await session.step(action)).score == score


async def test_an_answer_too_long_for_the_pipe_costs_only_its_session() -> None:
    async with pool_of() as pool:
        first, second, before = await with_a_neighbour(pool)
        with pytest.raises(EnvironmentFailure, match="garbage"):
            await first.step("long")
        await assert_goes_on(second, before, same_process=False)


async def test_a_lost_session_makes_room_in_its_process() -> None:
    async with pool_of(processes=2) as pool:
        first, opening = await pool.open(PLAIN)
        await pool.open(PLAIN)
        with pytest.raises(EnvironmentFailure):
            await first.step("fail")
        await first.close()
        _, next_opening = await pool.open(PLAIN)
    assert process_of(next_opening) == process_of(opening)


async def test_a_session_that_cannot_be_opened_fails_alone() -> None:
    async with pool_of() as pool:
        with pytest.raises(EnvironmentFailure, match="FileNotFoundError: game"):
            await pool.open(task_of("missing"))
        assert (await pool.open(PLAIN))[1].text == "task"


async def test_what_the_environment_prints_does_not_reach_the_protocol() -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(PLAIN)
        assert (await session.step("print")).text == "printed"
        assert (await session.step("a")).text == "task 2 a"


async def test_an_environment_that_answers_otherwise_the_second_time_is_found_out() -> None:
    async with pool_of() as pool:
        first, second, _ = await with_a_neighbour(pool)
        await second.step("process")
        with pytest.raises(EnvironmentFailure):
            await first.step("die")
        with pytest.raises(EnvironmentFailure, match="isn't deterministic"):
            await second.step("b")


async def test_a_cancelled_step_costs_no_other_session() -> None:
    async with pool_of() as pool:
        first, second, before = await with_a_neighbour(pool)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await first.step("hang")
        await first.close()
        await assert_goes_on(second, before, same_process=False)


async def test_a_session_that_cannot_be_closed_costs_nothing() -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(task_of("unclosable"))
        await session.close()
        assert (await pool.open(PLAIN))[1].text == "task"


async def test_closing_twice_is_harmless() -> None:
    async with pool_of() as pool:
        session, _ = await pool.open(PLAIN)
        await session.close()
        await session.close()


async def test_leaving_the_pool_ends_its_processes() -> None:
    async with pool_of(processes=2) as pool:
        processes = [process_of((await pool.open(PLAIN))[1]) for _ in range(2)]
    assert not any(map(runs, processes))


async def test_leaving_the_pool_does_not_wait_for_a_child_that_holds_its_output() -> None:
    async with asyncio.timeout(GENEROUS):
        async with pool_of() as pool:
            session, opening = await pool.open(PLAIN)
            child = int((await session.step("fork")).text)
        assert not runs(process_of(opening))
        os.kill(child, signal.SIGKILL)


async def test_an_environment_that_refuses_its_options_is_a_configuration_error() -> None:
    with pytest.raises(EnvironmentConfigurationError, match="the option broken is no good"):
        async with pool_of(broken="configuration"):
            pass


async def test_an_unknown_environment_is_a_configuration_error_that_lists_the_known() -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"'nethack'.*known:.*fake"):
        async with EnvironmentPool("nethack", {}, Path(), processes=1, step_timeout=GENEROUS):
            pass


@pytest.mark.parametrize(("broken", "reason"), [("constructor", "ZeroDivisionError: oh"), ("death", "SIGKILL")])
async def test_an_environment_that_breaks_while_it_is_built_is_a_failure(broken: str, reason: str) -> None:
    with pytest.raises(EnvironmentFailure, match=reason):
        async with pool_of(processes=2, broken=broken):
            pass


ORPHANING = """
import asyncio, sys
from pathlib import Path
from distillery.environments.base import Task
from distillery.environments.pool.pool import EnvironmentPool

async def main():
    async with EnvironmentPool("fake", {}, Path(), processes=1, step_timeout=1000) as pool:
        session, opening = await pool.open(Task("task", "train", "count", "count"))
        print(opening.admissible[0], flush=True)
        await session.step(sys.argv[1])
        sys.stdin.read()

asyncio.run(main())
"""


@pytest.mark.parametrize("action", ["a", "hang"])
def test_no_process_outlives_a_parent_that_was_killed(action: str) -> None:
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


def test_the_pool_runs_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def play() -> None:
        async with pool_of() as pool:
            first, second, before = await with_a_neighbour(pool)
            with pytest.raises(EnvironmentFailure, match="SIGKILL"):
                await first.step("die")
            await assert_goes_on(second, before, same_process=False)

    uvloop.run(play())
