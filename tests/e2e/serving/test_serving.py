"""A promotion and a rollback of an adapter, on every replica, under load from the openai client."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from statistics import median

import pytest

from tests.e2e.run.test_loop import query
from tests.e2e.support import serving
from tests.e2e.support.cluster import Namespace
from tests.e2e.support.serving import NAME, load, pods, serve

FLIPS = 20
SECONDS_TO_ALL_REPLICAS = 10.0


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def flip(adapters: Namespace, times: int) -> list[float]:
    """Roll back and promote by turns, under load: no request fails and no pod changes. The seconds that each takes."""
    names = serving.models(adapters)
    before = pods(adapters)
    assert len(before) == 2
    right, took = {names[1]}, list[float]()
    with load(adapters, right) as (answered, wrong):
        for turn in range(times):
            number = turn % 2
            right.add(names[number])
            took.append(serve(adapters, number))
            right.intersection_update({names[number]})
            time.sleep(1)
    assert wrong == []
    assert len(answered) > times
    after = pods(adapters)
    assert {p["metadata"]["uid"] for p in after.values()} == {p["metadata"]["uid"] for p in before.values()}
    assert all(set(serving.restarts(pod).values()) == {0} for pod in after.values())
    assert max(took) <= SECONDS_TO_ALL_REPLICAS
    return took


def test_rollback_and_promotion_drop_no_request(adapters: Namespace):
    flip(adapters, 2)
    reasons = [entry["reason"] for entry in adapters.status(NAME)["serving"]["history"]]
    assert len(reasons) >= 3
    assert all(reasons)


@pytest.mark.full
def test_promotions_and_rollbacks_drop_no_request_and_restart_nothing(adapters: Namespace):
    took = flip(adapters, FLIPS)
    assert_history_is_kept(adapters)
    limits = {"gateway": {"limits": {"maxTokens": 512}}}
    rolling = timed(lambda: serving.roll(adapters, limits))
    print(f"to all replicas: {sorted(took)} s; a rolling update of the same pods: {rolling:.1f} s")
    assert median(took) <= 0.1 * rolling


def assert_history_is_kept(adapters: Namespace) -> None:
    """The newest entries in the status, and these and others in the database."""
    newest = adapters.status(NAME)["serving"]["history"]
    assert len(newest) == 20

    def missing() -> set[tuple[int, int]]:
        sql = "SELECT round, reason, extract(epoch FROM since)::bigint AS since FROM serving_history"
        rows = query(adapters, NAME, sql)
        kept = {(row["since"], row["round"]): row["reason"] for row in rows}
        reported = {(int(datetime.fromisoformat(entry["time"]).timestamp()), entry["round"]) for entry in newest}
        assert all(kept.values())
        return reported - kept.keys()

    adapters.wait_for("the history in the database", lambda: not missing(), run=NAME, seconds=120)


def test_vllm_is_unreachable_except_through_the_gateway(adapters: Namespace):
    name, pod = next(iter(pods(adapters).items()))
    for path in ("/v1/load_lora_adapter", "/metrics", "/collective_rpc", "/v1/../health"):
        probe = (
            "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8000); "
            f"c.request('POST', {path!r}, '{{}}'); print(c.getresponse().status)"
        )
        assert adapters.kubectl("exec", name, "--container=gateway", "--", "python3", "-c", probe).strip() == "404"
    probe = f"import socket; socket.create_connection(({pod['status']['podIP']!r}, 8001), 5)"
    done = adapters.try_kubectl("exec", name, "--container=gateway", "--", "python3", "-c", probe)
    assert "ConnectionRefusedError" in done.stderr
