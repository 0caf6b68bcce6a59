"""The manifests that the operator makes: their names, owners, security and secrets."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from distillery.core.api import parse
from distillery.core.contracts.stage_config import StageConfig
from distillery.core.planner import Kind, Model, Stage, StageId
from distillery.core.planner.graph import BASE, PREPARE, Lineage, round_stages
from distillery_operator.manifests import canary_servers, database, gateway, jobs, servers, storage, vllm
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest
from distillery_operator.settings import Settings
from tests.fakes.cluster import UID, run_object

SETTINGS = Settings()
STUDENT = Model("student", StageId(1, Kind.TRAIN, "distilled"))
DIGEST = "abcdef0123456789"
ADAPTER: dict[str, Any] = {"promotion": {"weights": "adapter"}}
KEYS: dict[str, Any] = {"serving": {"gateway": {"apiKeysSecretRef": {"name": "clients"}}}}
IN_S3: dict[str, Any] = {
    "storage": {
        "uri": "s3://bucket/runs", "endpointURL": "http://s3:7070",
        "credentialsSecretRef": {"name": "s3", "key": "credentials"},
    },
}  # fmt: skip
GPU: dict[str, Any] = {"modelServer": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}
EXTRACTOR = {
    "endpoint": {
        "baseURL": "https://host/v1",
        "model": "m",
        "apiKeySecretRef": {"name": "openai", "key": "token"},
    }
}


def owner(name: str = "test", **spec: Any) -> RunRef:
    body = run_object(name, **spec)
    return RunRef(parse(body), UID)


def stage(kind: Kind, *, of: RunRef | None = None, player: Model = BASE) -> Stage:
    if kind is Kind.PREPARE:
        return Stage(StageId(0, kind))
    if kind in (Kind.SAMPLE, Kind.JUDGE):  # not in a first round without a confirmation
        return Stage(StageId(2, kind))
    return next(s for s in round_stages((of or owner()).run.spec, 1, Lineage(player)) if s.id.kind is kind)


def job(kind: Kind, of: RunRef | None = None, settings: Settings = SETTINGS, **more: Any) -> Manifest:
    of = of or owner()
    return jobs.stage_job(of, stage(kind, of=of, **more), "j", settings, digest="abcdef0123456789")


def serving(of: RunRef, student: Model = STUDENT, digest: str = DIGEST, settings: Settings = SETTINGS) -> Manifest:
    return servers.deployment(of, student, digest, settings)


def serving_pod(of: RunRef) -> Manifest:
    """The specification of the pods that serve, with their containers by name as well."""
    pod = serving(of)["spec"]["template"]["spec"]
    return pod | {c["name"]: c for c in (*pod["initContainers"], *pod["containers"])}


def variables(container: Manifest) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def everything(of: RunRef, settings: Settings = SETTINGS) -> Iterator[Manifest]:
    """One of each object that is made for a run."""
    yield storage.service_account(of)
    yield storage.claim(of)
    yield database.secret(of, "hunter2hunter2")
    yield database.service(of)
    yield database.stateful_set(of, settings)
    yield database.network_policy(of)
    yield jobs.migration_job(of, settings)
    for kind in Kind:
        yield jobs.config_map(of, stage(kind, of=of), "j")
        yield job(kind, of, settings)
    yield serving(of, settings=settings)
    yield servers.service(of)
    yield servers.disruption_budget(of)
    yield gateway.network_policy(of, settings)
    yield gateway.config_map(of, gateway.routing_document(of, STUDENT, DIGEST, adapter=True))
    if not servers.serves_adapters(of.run.spec):
        yield from canary_servers.manifests(of, STUDENT, DIGEST, settings, replicas=2)


def pod_specs(of: RunRef, settings: Settings = SETTINGS) -> Iterator[Manifest]:
    for made in everything(of, settings):
        if template := made.get("spec", {}).get("template"):
            yield template["spec"]


def test_network_policy_admits_the_operator_to_stages():
    policy = jobs.network_policy(owner(), SETTINGS)
    assert policy["spec"]["podSelector"]["matchLabels"] == owner().selector("stage")
    assert policy["spec"]["ingress"] == [{"ports": [{"port": jobs.STATUS_PORT, "protocol": "TCP"}]}]
    peer = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
    (rule,) = jobs.network_policy(owner(), replace(SETTINGS, metrics_from=(peer,)))["spec"]["ingress"]
    assert [p["podSelector"]["matchLabels"] for p in rule["from"]] == [
        {"app.kubernetes.io/name": "distillery-operator"},
        {"app": "prometheus"},
    ]


def test_stage_config_ignores_fields_that_a_newer_operator_wrote():
    (text,) = jobs.config_map(owner(training={"seed": 7}), stage(Kind.ROLLOUT), "name")["data"].values()
    written = json.loads(text)
    assert written["document"]["spec"] == {
        "models": {"student": {"model": "/models/tiny"}},
        "evaluation": {"arms": ["baseline", "distilled"]},
        "training": {"seed": 7},
    }
    newer = written | {"speculation": True, "server": {**written["server"], "speculation": True}}
    assert StageConfig.model_validate(newer) == StageConfig.model_validate(written)


def test_object_is_owned_by_its_run():
    for made in everything(owner()):
        (reference,) = made["metadata"]["ownerReferences"]
        assert (reference["kind"], reference["uid"]) == ("DistillationRun", UID)
        assert made["metadata"]["namespace"] == "team"
        assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "distillery"
        assert made["metadata"]["labels"]["distillery.dev/run"] == "test"


def test_base_models_stay_in_their_claim_when_artifacts_are_in_s3():
    storage = {**IN_S3["storage"], "modelCache": {"claimName": "models"}}
    of, without = owner(storage=storage, **ADAPTER), owner(**IN_S3, **ADAPTER)
    assert of.identity == without.identity
    for pod in (job(Kind.EVALUATE, of)["spec"]["template"]["spec"], serving(of)["spec"]["template"]["spec"]):
        (volume,) = [v["name"] for v in pod["volumes"] if v.get("persistentVolumeClaim") == {"claimName": "models"}]
        for container in (*pod["initContainers"], *pod["containers"]):
            mounted = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
            assert mounted.get(volume) == variables(container).get("HF_HOME")
    assert not any("persistentVolumeClaim" in volume for volume in serving_pod(without)["volumes"])


@pytest.mark.parametrize("more", [{}, IN_S3])
def test_two_runs_of_one_name_share_no_artifact(more: dict[str, Any]):
    first = owner(**more)
    second, reseeded = replace(first, uid="another-uid"), owner(**more, training={"seed": 7})
    keys = {of.identity.key for of in (first, second, reseeded)}
    assert len(keys) == 3
    assert owner(**more, rollout={"workers": 3}).identity == first.identity  # says how, not what
    for of in (first, second, reseeded):
        assert jobs.stage_config(of, stage(Kind.TRAIN, of=of)).identity == str(of.identity)
        command = serving_pod(of)["fetch"]["command"]
        assert command[command.index("--run") + 1] == str(of.identity)
        assert command[command.index("--student") + 1] == DIGEST
    assert len({jobs.job_name(of, PREPARE, 1) for of in (first, second, reseeded)}) == 3


def test_claim_has_no_owner_when_it_is_retained():
    assert "ownerReferences" not in storage.claim(owner(storage={"retain": True}))["metadata"]


@pytest.mark.parametrize(
    "spec", [{}, GPU, ADAPTER, KEYS, {"models": {"student": {"model": "/m"}, "extractor": EXTRACTOR}}]
)
def test_pods_follow_the_restricted_pod_security_standard(spec: dict[str, Any]):
    """What pod security standard `restricted` asks for, and a read-only root besides."""
    for pod in pod_specs(owner(**spec)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {"emptyDir", "persistentVolumeClaim", "configMap", "secret"}


def test_no_manifest_contains_a_secret():
    of = owner(models={"student": {"model": "/m"}, "extractor": EXTRACTOR})
    for made in everything(of):
        if made["kind"] == "Secret":
            continue
        text = json.dumps(made)
        assert "hunter2" not in text
        assert "secretKeyRef" not in text  # files, not variables


WITH_SECRETS: dict[str, Any] = {
    "environment": {"name": "openenv", "tokenSecretRef": {"name": "games", "key": "token"}},
    "models": {"student": {"model": "/m"}, "extractor": EXTRACTOR},
    **IN_S3,
}


def test_pod_mounts_only_the_secrets_of_its_stage():
    of = owner(**WITH_SECRETS)

    def seen(kind: Kind) -> set[str]:
        volumes = job(kind, of)["spec"]["template"]["spec"]["volumes"]
        return {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}

    assert seen(Kind.PREPARE) == {"test-database", "s3", "openai", "games"}
    assert seen(Kind.ROLLOUT) == seen(Kind.EVALUATE) == {"test-database", "s3", "games"}
    assert seen(Kind.HINTS) == {"test-database", "s3", "openai"}
    assert seen(Kind.TRAIN) == {"test-database", "s3"}


def test_model_server_of_a_stage_mounts_no_secret():
    sidecar = job(Kind.ROLLOUT, owner(**WITH_SECRETS))["spec"]["template"]["spec"]["initContainers"][-1]
    assert not [mount for mount in sidecar["volumeMounts"] if "secret" in mount["name"]]


def test_configuration_error_fails_a_stage_immediately():
    made = job(Kind.ROLLOUT, owner(rollout={"workers": 3}))["spec"]
    assert (made["completions"], made["parallelism"], made["completionMode"]) == (3, 3, "Indexed")
    assert made["podReplacementPolicy"] == "Failed"
    assert [rule["action"] for rule in made["podFailurePolicy"]["rules"]] == ["FailJob", "FailJob", "Ignore"]
    codes = [rule["onExitCodes"] for rule in made["podFailurePolicy"]["rules"][:2]]
    assert [(code["containerName"], code["values"]) for code in codes] == [("worker", [78]), ("fetch", [78])]
    alone = job(Kind.TRAIN)["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in alone] == ["FailJob", "Ignore"]
    assert job(Kind.TRAIN, owner(rollout={"workers": 3}))["spec"]["completions"] == 1


def test_job_leaves_the_field_suspend_unset():
    for kind in Kind:
        assert "suspend" not in job(kind)["spec"]


def test_job_has_the_queue_label_of_kueue_when_a_queue_is_named():
    made = job(Kind.TRAIN, owner(queueName="gpus"))
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_stage_has_a_server_on_loopback_when_it_plays():
    pod = job(Kind.ROLLOUT)["spec"]["template"]["spec"]
    fetch, server = pod["initContainers"]
    assert server["restartPolicy"] == "Always"
    assert fetch["name"] == "fetch"
    command = server["command"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "--enforce-eager" in command
    assert server["image"] == SETTINGS.cpu_server_image
    assert "initContainers" not in job(Kind.HINTS)["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("resources", "threads"),
    [
        ({"requests": {"cpu": "200m"}}, "1"),
        ({"requests": {"cpu": "2"}, "limits": {"cpu": "3500m"}}, "4"),
        ({"requests": {"memory": "1Gi"}}, None),
        ({"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "1"}}, None),
    ],
)
def test_cpu_server_has_a_thread_for_each_core(resources: dict[str, Any], threads: str | None):
    made = job(Kind.ROLLOUT, owner(modelServer={"resources": resources}))
    server = made["spec"]["template"]["spec"]["initContainers"][1]
    environment = {variable["name"]: variable.get("value") for variable in server["env"]}
    assert environment.get("OMP_NUM_THREADS") == threads
    assert environment.get("VLLM_CPU_OMP_THREADS_BIND") == ("nobind" if threads else None)


async def test_server_is_ready_when_health_succeeds():
    healthy = False

    async def health(_: web.Request) -> web.Response:
        return web.Response(status=200 if healthy else 503)

    app = web.Application()
    app.router.add_get("/health", health)
    async with TestServer(app) as server:
        assert server.port
        command = [sys.executable, *vllm.health_check(server.port)[1:]]

        async def code() -> int:
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
            return await process.wait()

        assert await code() == 1
        healthy = True
        assert await code() == 0
    assert await code() == 1


def test_student_is_an_adapter_when_servers_have_gpus():
    of = owner(**GPU)
    playing = next(s for s in round_stages(of.run.spec, 1, Lineage()) if s.id.variant == "distilled" and s.arms)
    made = jobs.stage_job(of, playing, "j", SETTINGS, digest="abcdef0123456789")
    server = made["spec"]["template"]["spec"]["initContainers"][-1]
    assert server["image"] == SETTINGS.gpu_server_image
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert f"student-abcdef012345=/artifacts/{of.identity.key}/r1-train-distilled/adapter" in server["command"]
    config = jobs.stage_config(of, playing, digest="abcdef0123456789")
    assert config.server
    assert config.server.model == "student-abcdef012345"
    assert not jobs.stage_config(of, stage(Kind.TRAIN, of=of)).merge


def test_stage_has_no_server_when_the_model_has_an_endpoint():
    endpoint: dict[str, Any] = {
        "baseURL": "http://llm/v1",
        "model": "qwen",
        "apiKeySecretRef": {"name": "llm", "key": "k"},
    }
    endpoint["parameters"] = {"max_tokens": None, "seed": 7}
    of = owner(models={"student": {"model": "/m", "endpoint": endpoint}})
    pod = job(Kind.ROLLOUT, of)["spec"]["template"]["spec"]
    assert "initContainers" not in pod
    config = jobs.stage_config(of, stage(Kind.ROLLOUT, of=of))
    assert config.server
    assert (config.server.base_url, config.server.model) == ("http://llm/v1", "qwen")
    assert config.server.api_key_secret == ("llm", "k")
    assert config.server.parameters == {"max_tokens": None, "seed": 7}
    assert config.server.field == "spec.models.student.endpoint"


def test_stage_reads_its_configuration_where_it_is_mounted():
    made = jobs.config_map(owner(), stage(Kind.ROLLOUT), "j")
    config = StageConfig.model_validate_json(made["data"]["config.json"])
    assert config.stage == "r1-rollout"
    assert config.arms == ("own",)
    assert config.persist_status
    assert config.run.key == "team/test"


def test_stage_settings_override_those_of_the_run():
    of = owner(
        podTemplate={
            "nodeSelector": {"pool": "cpu"},
            "priorityClassName": "low",
            "imagePullSecrets": [{"name": "registry"}],
        },
        stages={"train": {"podTemplate": {"nodeSelector": {"pool": "gpu"}}, "timeoutSeconds": 60, "maxRetries": 1}},
    )
    train = job(Kind.TRAIN, of)["spec"]
    pod = train["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["priorityClassName"] == "low"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert (train["activeDeadlineSeconds"], train["backoffLimitPerIndex"]) == (60, 1)
    assert job(Kind.HINTS, of)["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "cpu"}


def test_job_gives_each_worker_its_own_retries():
    rollout = job(Kind.ROLLOUT, owner(rollout={"workers": 8}))["spec"]
    assert "backoffLimit" not in rollout
    assert (rollout["backoffLimitPerIndex"], rollout["maxFailedIndexes"], rollout["completions"]) == (3, 7, 8)
    assert job(Kind.TRAIN, owner(rollout={"workers": 8}))["spec"]["maxFailedIndexes"] == 0


def test_job_names_fit_when_the_run_has_a_long_name():
    of = owner("a" * 40)
    long = Stage(StageId(100, Kind.EVALUATE, "placebo-distilled-unfiltered"))
    names = {jobs.job_name(of, long.id, attempt) for attempt in (1, 2)}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)
