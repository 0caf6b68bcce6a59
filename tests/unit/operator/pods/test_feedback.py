"""Who keeps what users play, who may reach it, and how the operator learns how much there is."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from distillery.feedback import recorder as program
from distillery_operator.cache import Cache
from distillery_operator.manifests import database, gateway
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest
from distillery_operator.pods import client, feedback, progress
from distillery_operator.pods.progress import waiting_progress
from distillery_operator.pods.reports import FailureCount
from tests.fakes.cluster import FakeCluster, run_object
from tests.unit.operator.decide.test_decide import TRIGGERED, until_waiting
from tests.unit.operator.manifests.test_manifests import (
    ADAPTER,
    IN_S3,
    KEYS,
    SETTINGS,
    owner,
    pod_specs,
    serving_pod,
    variables,
)

KEPT: dict[str, Any] = {"serving": {"feedback": {"retentionDays": 7, "maxSessions": 99, "redactPatterns": ["x+"]}}}
OWN_DATABASE: dict[str, Any] = {"database": {"dsnSecretRef": {"name": "pg", "key": "uri"}}}


def with_secret(pod: Manifest, secret: str) -> set[str]:
    """The containers that see a Secret."""
    (volume,) = (v["name"] for v in pod["volumes"] if v.get("secret", {}).get("secretName") == secret)
    containers = [*pod["initContainers"], *pod["containers"]]
    return {c["name"] for c in containers if volume in {mount["name"] for mount in c["volumeMounts"]}}


@pytest.mark.parametrize("spec", [{}, ADAPTER, KEYS, IN_S3])
def test_pod_has_no_recorder_when_feedback_is_off(spec: dict[str, Any]):
    pod = serving_pod(owner(**spec))
    assert "recorder" not in pod
    assert not {"capture", "dsn"} & {volume["name"] for volume in pod["volumes"]}
    assert not {"DISTILLERY_CAPTURE_DIR", "DISTILLERY_REDACT_PATTERNS"} & variables(pod["gateway"]).keys()
    (rule,) = database.network_policy(owner(**spec))["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": owner().selector("stage")}}]


@pytest.mark.parametrize(("more", "secret"), [({}, "test-database"), (OWN_DATABASE, "pg"), (IN_S3, "test-database")])
@pytest.mark.parametrize("weights", ["merged", "adapter"])
def test_recorder_alone_mounts_the_database_credentials(more: dict[str, Any], secret: str, weights: str):
    of = owner(promotion={"weights": weights}, **KEPT, **more)
    pod = serving_pod(of)
    assert with_secret(pod, secret) == {"recorder"}
    for name in ("gateway", "server", "fetch"):
        assert not [v for v in variables(pod[name]) if "DATABASE" in v]
    mounted = {m["name"] for m in pod["recorder"]["volumeMounts"]}
    assert mounted == {"tmp", "capture", "dsn"}
    assert with_secret(serving_pod(owner(**KEPT, **IN_S3)), "s3") == {"fetch"}


def test_gateway_and_recorder_alone_share_a_bounded_folder():
    pod = serving_pod(owner(**KEPT))
    (volume,) = (v for v in pod["volumes"] if v["name"] == "capture")
    assert volume["emptyDir"] == {"sizeLimit": "256Mi"}
    containers = [*pod["initContainers"], *pod["containers"]]
    sees = {c["name"] for c in containers for m in c["volumeMounts"] if m["name"] == "capture"}
    assert sees == {"gateway", "recorder"}
    assert variables(pod["gateway"])["DISTILLERY_CAPTURE_DIR"] == variables(pod["recorder"])["DISTILLERY_CAPTURE_DIR"]
    assert json.loads(variables(pod["gateway"])["DISTILLERY_REDACT_PATTERNS"]) == ["x+"]


def test_recorder_reads_the_settings_of_its_container(tmp_path: Path):
    pod = serving_pod(owner(**KEPT))
    environment = variables(pod["recorder"])
    assert any(
        environment["DISTILLERY_DATABASE_URL_FILE"].startswith(m["mountPath"]) for m in pod["recorder"]["volumeMounts"]
    )
    (tmp_path / "dsn").write_text("host=somewhere\n")
    settings = program.Settings.from_environment({**environment, "DISTILLERY_DATABASE_URL_FILE": str(tmp_path / "dsn")})
    assert (settings.dsn, settings.run) == ("host=somewhere", "team/test")
    assert (settings.retention_days, settings.max_sessions, settings.port) == (7, 99, 8004)
    assert importlib.import_module(pod["recorder"]["command"][-1]).main is program.main
    assert pod["recorder"]["restartPolicy"] == "Always"
    assert "startupProbe" not in pod["recorder"], "a pod serves whether the database is there or not"


def test_network_policies_admit_recorders_and_the_operator():
    of = owner(**KEPT)
    (rule,) = database.network_policy(of)["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": of.selector(c)}} for c in ("stage", "serving")]
    *_, syncers, recorders = gateway.network_policy(of, SETTINGS)["spec"]["ingress"]
    assert recorders == {"from": syncers["from"], "ports": [{"port": 8004, "protocol": "TCP"}]}


def test_recorder_is_restricted_like_other_containers():
    for pod in pod_specs(owner(**KEPT)):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
        assert len({v["name"] for v in pod["volumes"]}) == len(pod["volumes"])


def pod(name: str, ip: str, *, recorder: bool = True) -> Manifest:
    made: list[Manifest] = [{"name": "recorder"}] if recorder else []
    return {"metadata": {"name": name}, "spec": {"initContainers": made}, "status": {"podIP": ip}}


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        ('{"failures": 31}', 31),
        ('{"failures": -4}', 0),
        ('{"failures": "many"}', 0),
        ('{"failures": 1e999}', 0),
        ("{}", 0),
        ("[]", 0),
        ("[" * 60_000, 0),
        ('{"failures": 31}' + " " * 70_000, 0),
    ],
)
async def test_failure_count_is_bounded_when_a_recorder_reports_too_many(said: str, counted: int):
    async def state(_: web.Request) -> web.Response:
        return web.Response(text=said, content_type="application/json")

    app = web.Application()
    app.router.add_get("/state", state)
    async with TestServer(app) as server:
        pods = [pod("a", "127.0.0.1"), pod("without", "127.0.0.1", recorder=False), pod("starting", "")]
        assert await feedback.count_failures(pods, port=server.port or 0) == counted
    assert await feedback.count_failures([pod("gone", "127.0.0.1")], port=1) == 0


@pytest.mark.parametrize("said", ['{"done": 1e999, "total": 9, "stage": "", "unit": ""}', "[" * 60_000, "1", "null"])
async def test_progress_is_empty_when_a_worker_lies(said: str, monkeypatch: pytest.MonkeyPatch):
    async def state(_: web.Request) -> web.Response:
        return web.Response(text=said, content_type="application/json")

    app = web.Application()
    app.router.add_get("/progress", state)
    worker = pod("w", "127.0.0.1") | {"metadata": {"name": "w", "labels": {STAGE_LABEL: "r1-rollout"}}}
    worker["status"]["phase"] = "Running"
    async with TestServer(app) as server, client.session() as session:
        monkeypatch.setattr(progress, "STATUS_PORT", server.port)
        assert await progress._poll_stage([worker], session) == {}


async def test_redirect_of_a_pod_is_not_followed():
    async def elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPFound("/there")

    async def there(_: web.Request) -> web.Response:
        return web.json_response({"failures": 31})

    app = web.Application()
    app.router.add_get("/state", elsewhere)
    app.router.add_get("/there", there)
    async with TestServer(app) as server:
        assert await feedback.count_failures([pod("a", "127.0.0.1")], port=server.port or 0) == 0


async def test_failure_count_is_polled_while_a_run_waits(monkeypatch: pytest.MonkeyPatch):
    cluster, asked, clock = FakeCluster(run_object(**TRIGGERED)), list[int](), [1000.0]
    until_waiting(cluster)
    cache = Cache()
    cache.keep_run(copy.deepcopy(cluster.body) | {"status": cluster.status})
    for thing in cluster.objects.values():
        cache.keep(copy.deepcopy(thing))

    async def count_failures(pods: Any) -> int:
        asked.append(len(list(pods)))
        return 49 + len(asked)

    monkeypatch.setattr(feedback, "count_failures", count_failures)
    monkeypatch.setattr("distillery_operator.pods.reports.time.monotonic", lambda: clock[0])
    count = FailureCount()
    observed = cache.observe(("team", "test"), cluster.body["metadata"]["uid"])
    phase = cluster.status["phase"]
    assert await count.poll(phase, observed) == 50
    clock[0] += 5
    assert await count.poll(phase, observed) == 50
    assert asked == [1], "not at every event"
    clock[0] += 15
    assert await count.poll(phase, observed) == 51
    phase = "Running"
    clock[0] += 60
    assert await count.poll(phase, observed) == 0


def test_progress_of_a_waiting_run_is_its_number_of_failures():
    shown = waiting_progress(run_object(**TRIGGERED), 31)
    assert (shown["text"], shown["done"], shown["total"]) == ("31/50", 31, 50)
    assert waiting_progress(run_object(**TRIGGERED), 10**9)["text"] == "50/50"
