"""What the operator makes: named, owned, secured, and told only what it has to know."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from distillery.api import parse
from distillery.planning import Kind, Model, Stage, StageId
from distillery.planning.stages import BASE, PREPARE, round_stages
from distillery.stages.config import StageConfig
from distillery_gateway import main as gateway_main
from distillery_gateway.desired import Adapter, Desired, Target
from distillery_gateway.main import Settings as GatewaySettings
from distillery_gateway.routing import Routes
from distillery_operator.manifests import database, gateway, jobs, newcomer, servers, storage
from distillery_operator.manifests.names import Owner
from distillery_operator.objects import Object
from distillery_operator.settings import Settings
from tests.unit.operator.fake_cluster import UID, run_object

SETTINGS = Settings()
STUDENT = Model("student", StageId(1, Kind.TRAIN, "distilled"))
DIGEST = "abcdef0123456789"
ADAPTER: dict[str, Any] = {"promotion": {"weights": "adapter"}}
KEYS: dict[str, Any] = {"promotion": {"service": {"gateway": {"keysSecretRef": {"name": "clients"}}}}}
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


def test_the_operator_reaches_stages_where_a_namespace_lets_nobody_in():
    policy = jobs.network_policy(owner(), SETTINGS)
    assert policy["spec"]["podSelector"]["matchLabels"] == owner().selector("stage")
    assert policy["spec"]["ingress"] == [{"ports": [{"port": jobs.STATUS_PORT, "protocol": "TCP"}]}]
    peer = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
    (rule,) = jobs.network_policy(owner(), replace(SETTINGS, metrics_from=(peer,)))["spec"]["ingress"]
    assert [p["podSelector"]["matchLabels"] for p in rule["from"]] == [
        {"app.kubernetes.io/name": "distillery-operator"},
        {"app": "prometheus"},
    ]


def test_stage_of_an_older_image_ignores_what_it_does_not_know():
    (told,) = jobs.config_map(owner(training={"seed": 7}), stage(Kind.ROLLOUT), "name")["data"].values()
    written = json.loads(told)
    assert written["document"]["spec"] == {
        "models": {"student": {"model": "/models/tiny"}},
        "evaluation": {"arms": ["base", "distilled"]},
        "training": {"seed": 7},
    }
    newer = written | {"speculation": True, "server": {**written["server"], "speculation": True}}
    assert StageConfig.model_validate(newer) == StageConfig.model_validate(written)


def owner(name: str = "test", **spec: Any) -> Owner:
    body = run_object(name, **spec)
    return Owner(parse({k: v for k, v in body.items() if k != "status"}), UID)


def stage(kind: Kind, *, of: Owner | None = None, player: Model = BASE) -> Stage:
    if kind is Kind.PREPARE:
        return Stage(StageId(0, kind))
    return next(s for s in round_stages((of or owner()).run.spec, 1, player) if s.id.kind is kind)


def job(kind: Kind, of: Owner | None = None, settings: Settings = SETTINGS, **more: Any) -> Object:
    of = of or owner()
    return jobs.stage_job(of, stage(kind, of=of, **more), "j", settings, digest="abcdef0123456789")


def serving(of: Owner, student: Model = STUDENT, digest: str = DIGEST, settings: Settings = SETTINGS) -> Object:
    return servers.deployment(of, student, digest, settings)


def serving_pod(of: Owner) -> Object:
    """The specification of the pods that serve, with their containers by name as well."""
    pod = serving(of)["spec"]["template"]["spec"]
    return pod | {c["name"]: c for c in (*pod["initContainers"], *pod["containers"])}


def variables(container: Object) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def everything(of: Owner, settings: Settings = SETTINGS) -> Iterator[Object]:
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
    yield gateway.config_map(of, gateway.desired(of, STUDENT, DIGEST, adapter=True))
    if not servers.serves_adapters(of.run.spec):
        yield from newcomer.manifests(of, STUDENT, DIGEST, settings, replicas=2)


def pod_specs(of: Owner, settings: Settings = SETTINGS) -> Iterator[Object]:
    for made in everything(of, settings):
        if template := made.get("spec", {}).get("template"):
            yield template["spec"]


def test_everything_goes_with_its_run():
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


def test_a_retained_claim_stays():
    assert "ownerReferences" not in storage.claim(owner(storage={"retain": True}))["metadata"]


@pytest.mark.parametrize(
    "spec", [{}, GPU, ADAPTER, KEYS, {"models": {"student": {"model": "/m"}, "extractor": EXTRACTOR}}]
)
def test_pods_are_restricted(spec: dict[str, Any]):
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


def test_no_secret_stands_in_a_specification():
    of = owner(models={"student": {"model": "/m"}, "extractor": EXTRACTOR})
    for made in everything(of):
        if made["kind"] == "Secret":
            continue
        text = json.dumps(made)
        assert "hunter2" not in text
        assert "secretKeyRef" not in text  # files, not variables


def test_a_pod_sees_no_more_secrets_than_it_needs():
    of = owner(
        environment={"name": "openenv", "tokenSecretRef": {"name": "games", "key": "token"}},
        models={"student": {"model": "/m"}, "extractor": EXTRACTOR},
        **IN_S3,
    )

    def seen(kind: Kind) -> set[str]:
        volumes = job(kind, of)["spec"]["template"]["spec"]["volumes"]
        return {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}

    assert seen(Kind.PREPARE) == {"test-database", "s3", "openai", "games"}
    assert seen(Kind.ROLLOUT) == seen(Kind.EVALUATE) == {"test-database", "s3", "games"}
    assert seen(Kind.HINTS) == {"test-database", "s3", "openai"}
    assert seen(Kind.TRAIN) == {"test-database", "s3"}
    sidecar = job(Kind.ROLLOUT, of)["spec"]["template"]["spec"]["initContainers"][-1]
    assert not [mount for mount in sidecar["volumeMounts"] if "secret" in mount["name"]]


def test_workers_share_a_stage_and_configuration_errors_end_it_at_once():
    made = job(Kind.ROLLOUT, owner(rollout={"workers": 3}))["spec"]
    assert (made["completions"], made["parallelism"], made["completionMode"]) == (3, 3, "Indexed")
    assert made["podReplacementPolicy"] == "Failed"
    assert [rule["action"] for rule in made["podFailurePolicy"]["rules"]] == ["FailJob", "FailJob", "Ignore"]
    codes = [rule["onExitCodes"] for rule in made["podFailurePolicy"]["rules"][:2]]
    assert [(code["containerName"], code["values"]) for code in codes] == [("worker", [78]), ("fetch", [78])]
    alone = job(Kind.TRAIN)["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in alone] == ["FailJob", "Ignore"]
    assert job(Kind.TRAIN, owner(rollout={"workers": 3}))["spec"]["completions"] == 1


def test_a_job_never_says_whether_it_is_suspended():
    for kind in Kind:
        assert "suspend" not in job(kind)["spec"]


def test_kueues_queue_is_passed_through():
    made = job(Kind.TRAIN, owner(queueName="gpus"))
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_a_stage_that_plays_has_a_server_beside_it_on_loopback():
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
def test_a_server_on_a_cpu_takes_as_many_threads_as_it_asks_for_cores(resources: dict[str, Any], threads: str | None):
    made = job(Kind.ROLLOUT, owner(modelServer={"resources": resources}))
    server = made["spec"]["template"]["spec"]["initContainers"][1]
    environment = {variable["name"]: variable.get("value") for variable in server["env"]}
    assert environment.get("OMP_NUM_THREADS") == threads
    assert environment.get("VLLM_CPU_OMP_THREADS_BIND") == ("nobind" if threads else None)


async def test_a_server_is_ready_when_it_says_so():
    healthy = False

    async def health(_: web.Request) -> web.Response:
        return web.Response(status=200 if healthy else 503)

    app = web.Application()
    app.router.add_get("/health", health)
    async with TestServer(app) as server:
        assert server.port
        command = [sys.executable, *servers.health_check(server.port)[1:]]

        async def code() -> int:
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
            return await process.wait()

        assert await code() == 1
        healthy = True
        assert await code() == 0
    assert await code() == 1


def test_with_a_gpu_students_are_adapters_beside_their_base():
    of = owner(**GPU)
    playing = next(s for s in round_stages(of.run.spec, 1, BASE) if s.id.variant == "distilled" and s.arms)
    made = jobs.stage_job(of, playing, "j", SETTINGS, digest="abcdef0123456789")
    server = made["spec"]["template"]["spec"]["initContainers"][-1]
    assert server["image"] == SETTINGS.gpu_server_image
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert f"student-abcdef012345=/artifacts/{of.identity.key}/r1-train-distilled/adapter" in server["command"]
    config = jobs.stage_config(of, playing, digest="abcdef0123456789")
    assert config.server
    assert config.server.model == "student-abcdef012345"
    assert not jobs.stage_config(of, stage(Kind.TRAIN, of=of)).merge


def test_somebody_elses_endpoint_needs_no_server():
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


def test_what_is_mounted_is_what_a_stage_reads():
    made = jobs.config_map(owner(), stage(Kind.ROLLOUT), "j")
    config = StageConfig.model_validate_json(made["data"]["config.json"])
    assert config.stage == "r1-rollout"
    assert config.arms == ("own",)
    assert config.records_itself
    assert config.run.key == "team/test"


def test_settings_of_a_stage_stand_in_for_those_of_the_run():
    of = owner(
        pods={"nodeSelector": {"pool": "cpu"}, "priorityClassName": "low", "imagePullSecrets": [{"name": "registry"}]},
        stages={"train": {"pods": {"nodeSelector": {"pool": "gpu"}}, "timeoutSeconds": 60, "maxRetries": 1}},
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


def test_names_fit_whatever_the_run_is_called():
    of = owner("a" * 40)
    long = Stage(StageId(100, Kind.EVALUATE, "placebo-distilled-unfiltered"))
    names = {jobs.job_name(of, long.id, attempt) for attempt in (1, 2)}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_no_more_pods_are_missing_while_a_student_replaces_another():
    made = serving(owner(promotion={"service": {"replicas": 2}}))
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    other = serving(owner(), digest="fedcba9876543210")
    assert made["spec"]["selector"] == other["spec"]["selector"]
    assert made["spec"]["template"]["metadata"]["labels"] != other["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("spec", [{}, GPU, ADAPTER])
def test_vllm_is_reached_by_the_containers_beside_it_only(spec: dict[str, Any]):
    pod = serving_pod(owner(**spec))
    command = pod["server"]["command"]
    assert (command[command.index("--host") + 1], command[command.index("--port") + 1]) == ("127.0.0.1", "8001")
    assert "ports" not in pod["server"]
    assert servers.service(owner(**spec))["spec"]["ports"][0]["targetPort"] == "http"
    ports = {port["name"]: port["containerPort"] for c in pod["containers"] for port in c["ports"]}
    assert ports == {"http": 8000, "admin": 8002}


def test_adapters_can_be_loaded_where_a_syncer_loads_them_and_nowhere_else():
    merged, adapter = serving_pod(owner()), serving_pod(owner(**ADAPTER))
    assert [c["name"] for c in merged["initContainers"]] == ["fetch", "server"]
    assert [c["name"] for c in adapter["initContainers"]] == ["fetch", "server", "syncer"]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in variables(merged["server"])
    assert variables(adapter["server"])["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    beside = job(Kind.ROLLOUT, owner(**ADAPTER))["spec"]["template"]["spec"]["initContainers"][-1]
    for server in (merged["server"], adapter["server"], beside):
        assert "VLLM_SERVER_DEV_MODE" not in variables(server)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in variables(beside)


def test_with_adapters_a_pod_starts_with_the_base_model_alone():
    of = owner(**ADAPTER, training={"lora": {"rank": 24}})
    pod = serving_pod(of)
    assert serving(of) == serving(of, BASE, "") == serving(of, digest="fedcba9876543210")
    command = pod["server"]["command"]
    assert command[command.index("--model") + 1] == "/models/tiny"
    assert command[command.index("--served-model-name") + 1] == "base"
    assert command[command.index("--max-lora-rank") + 1] == "32"
    assert "--lora-modules" not in command
    assert "--artifact" not in pod["fetch"]["command"]


def test_merged_weights_say_whose_they_are_and_answer_to_the_name_that_all_pods_know():
    of = owner()
    command = serving_pod(of)["server"]["command"]
    at = command.index("--served-model-name")
    assert command[at + 1 : at + 4] == ["student-abcdef012345", "test", "--host"]
    assert command[command.index("--model") + 1] == f"/artifacts/{of.identity.key}/r1-train-distilled/merged"


def test_the_gateway_is_ready_before_requests_come_and_ends_before_the_server_does():
    pod = serving_pod(owner(**ADAPTER))
    assert pod["gateway"]["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8002}
    assert not {"readinessProbe"} & (pod["server"].keys() | pod["syncer"].keys()), "the gateway answers for them"
    assert pod["server"]["startupProbe"]["exec"]["command"] == servers.health_check(8001)
    # native sidecars end after the containers, in the reverse order of their start
    assert [c["name"] for c in pod["containers"]] == ["gateway"]
    assert pod["server"]["restartPolicy"] == pod["syncer"]["restartPolicy"] == "Always"
    leaving = pod["gateway"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    source = inspect.getsource(gateway_main)
    drain = re.search(r"timeout_graceful_shutdown=(\d+)", source)
    assert drain
    assert pod["terminationGracePeriodSeconds"] >= leaving + int(drain[1]) + 10


@pytest.mark.parametrize("name", ["gateway", "syncer"])
def test_what_the_gateway_and_the_syncer_take_is_small_and_said(name: str):
    resources = serving_pod(owner(**ADAPTER))[name]["resources"]
    assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
    assert resources["requests"]["memory"] in ("96Mi", "128Mi")


def test_the_gateway_understands_what_it_is_told():
    limits = {"maxTokens": 64, "requestsPerMinute": 10}
    given = {**KEYS["promotion"]["service"]["gateway"], "limits": limits, "deniedParameters": ["n", "tools"]}
    pod = serving_pod(owner(promotion={"service": {"gateway": given}}))
    settings = GatewaySettings.from_environment(variables(pod["gateway"]))
    assert (settings.upstream, settings.port, settings.admin_port) == ("http://127.0.0.1:8001", 8000, 8002)
    assert (settings.limits.max_tokens, settings.limits.requests_per_minute) == (64, 10)
    assert settings.denied == {"n", "tools"}
    mounts = {m["mountPath"]: m for m in pod["gateway"]["volumeMounts"]}
    assert mounts[str(settings.keys)]["readOnly"]
    desired = mounts[str(settings.desired.parent)]
    assert "subPath" not in desired, "the kubelet never changes those"
    (volume,) = (v for v in pod["volumes"] if v["name"] == desired["name"])
    made = gateway.config_map(owner(), {})
    assert volume["configMap"]["name"] == made["metadata"]["name"] == "test-serving"
    assert list(made["data"]) == [settings.desired.name]


@pytest.mark.parametrize(("spec", "denied"), [({}, {"seed"}), (GPU, set()), (ADAPTER, {"seed"})])
def test_what_ends_vllm_on_a_cpu_is_refused_there(spec: dict[str, Any], denied: set[str]):
    settings = GatewaySettings.from_environment(variables(serving_pod(owner(**spec))["gateway"]))
    assert settings.denied == denied
    own = owner(promotion={"service": {"gateway": {"deniedParameters": []}}})
    assert not GatewaySettings.from_environment(variables(serving_pod(own)["gateway"])).denied


@pytest.mark.parametrize("student", [STUDENT, BASE])
@pytest.mark.parametrize("adapter", [True, False])
def test_what_is_desired_is_what_pods_hold(student: Model, adapter: bool):
    digest = DIGEST if student is STUDENT else ""
    of = owner(**ADAPTER) if adapter else owner(promotion={"weights": "merged"})
    wanted = Desired.parse(json.dumps(gateway.desired(of, student, digest, adapter=adapter)))
    held = {adapter.name for adapter in wanted.adapters}
    command = serving(of, student, digest)["spec"]["template"]["spec"]["initContainers"][1]["command"]
    at = command.index("--served-model-name")
    held |= set(itertools.takewhile(lambda word: not word.startswith("--"), command[at + 1 :]))
    routes = Routes()
    assert routes.offer(wanted, held)
    assert set(routes.aliases) == {"test"}
    assert wanted.generation
    if adapter and student is STUDENT:
        assert wanted.adapters == (Adapter("student-abcdef012345", "r1-train-distilled", DIGEST),)


def test_the_syncer_only_reads_the_runs_volume_and_alone_writes_adapters():
    of = owner(**ADAPTER)
    pod = serving_pod(of)
    read_only = {c: {m["name"]: m.get("readOnly", False) for m in pod[c]["volumeMounts"]} for c in ("server", "syncer")}
    assert read_only["syncer"] == {"desired": True, "artifacts": True, "adapters": False}
    assert read_only["server"]["adapters"]
    told = variables(pod["syncer"])
    assert (told["DISTILLERY_STORE"], told["DISTILLERY_IDENTITY"]) == ("file:///artifacts", str(of.identity))
    assert {m["mountPath"] for m in pod["server"]["volumeMounts"]} >= {told["DISTILLERY_ADAPTERS"]}


def test_in_s3_the_syncer_alone_has_the_credentials():
    pod = serving_pod(owner(**ADAPTER, **IN_S3))

    def secret_mounts(container: str) -> list[str]:
        return [m["mountPath"] for m in pod[container]["volumeMounts"] if "secret" in m["name"]]

    assert [secret_mounts(c) for c in ("fetch", "server", "gateway")] == [[], [], []]
    (mounted,) = secret_mounts("syncer")
    told = variables(pod["syncer"])
    assert told["AWS_SHARED_CREDENTIALS_FILE"] == f"{mounted}/credentials"
    assert (told["DISTILLERY_STORE"], told["DISTILLERY_STORE_ENDPOINT"]) == (
        "s3://bucket/runs/team/test",
        "http://s3:7070",
    )
    assert not {m["name"]: m.get("readOnly") for m in pod["syncer"]["volumeMounts"]}["artifacts"]


def test_only_the_gateway_sees_the_keys_of_clients():
    pod = serving_pod(owner(promotion={"weights": "adapter", **KEYS["promotion"]}))
    see = {c for c in ("fetch", "server", "syncer", "gateway") for m in pod[c]["volumeMounts"] if m["name"] == "keys"}
    assert see == {"gateway"}
    (volume,) = (v for v in pod["volumes"] if v["name"] == "keys")
    assert volume["secret"]["secretName"] == "clients"


def test_the_port_for_operators_is_open_to_the_operator_and_whom_the_chart_names():
    monitoring = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    settings = Settings(namespace="distillery-system", metrics_from=(monitoring,))
    spec = gateway.network_policy(owner(), settings)["spec"]
    assert spec["podSelector"] == {"matchLabels": owner().selector("serving")}
    clients, operators, syncers = spec["ingress"]
    assert clients == {"ports": [{"port": 8000, "protocol": "TCP"}]}
    assert operators["ports"] == [{"port": 8002, "protocol": "TCP"}]
    operator, other = operators["from"]
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "distillery-system"}
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "distillery-operator"}
    assert other == monitoring
    assert syncers == {"from": [operator], "ports": [{"port": 8003, "protocol": "TCP"}]}


def test_a_newcomers_port_for_operators_is_open_to_whom_the_chart_names_alone():
    monitoring = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    policy = gateway.network_policy(owner(), Settings(metrics_from=(monitoring,)), gateway.CANARY)
    _, metrics = policy["spec"]["ingress"]
    assert metrics == {"from": [monitoring], "ports": [{"port": 8002, "protocol": "TCP"}]}


def test_a_newcomers_servers_are_the_servers_and_for_gateways_alone():
    of = owner(promotion={"weights": "merged", "service": {"replicas": 3}})
    policy, told, deployment, service = newcomer.manifests(of, STUDENT, DIGEST, SETTINGS, replicas=2)
    assert [made["metadata"]["name"] for made in (deployment, service)] == ["test-canary"] * 2
    assert deployment["spec"]["replicas"] == 2
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert not servers.service(of)["spec"]["selector"].items() <= labels.items()
    (gateways,) = policy["spec"]["ingress"]
    assert gateways == {
        "from": [{"podSelector": {"matchLabels": of.selector("serving")}}],
        "ports": [{"port": 8000, "protocol": "TCP"}],
    }
    (volume,) = (v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "desired")
    assert volume["configMap"]["name"] == told["metadata"]["name"]
    main = serving(of)["spec"]["template"]["spec"]
    own = deployment["spec"]["template"]["spec"]
    assert own["initContainers"] == main["initContainers"]
    (of_canary,), (of_stable,) = own["containers"], main["containers"]
    assert variables(of_canary) == {**variables(of_stable), "DISTILLERY_PER_KEY_LIMITS": "false"}
    assert {**of_canary, "env": []} == {**of_stable, "env": []}
    assert Desired.parse(told["data"]["desired"]).aliases == {"test": (Target("test", student="abcdef012345"),)}


@pytest.mark.parametrize(("weight", "shares"), [(10, [("base", 90), ("abcdef012345", 10)]), (0, [("base", 100)])])
@pytest.mark.parametrize("adapter", [True, False])
def test_a_newcomer_has_a_share_or_gets_copies(weight: int, shares: list[tuple[str, int]], adapter: bool):
    of = owner(**ADAPTER) if adapter else owner(promotion={"weights": "merged"})
    tried = gateway.Newcomer(STUDENT, DIGEST, weight, "now", 5.0)
    told = gateway.desired(of, BASE, "", adapter=adapter, newcomer=tried)
    wanted = Desired.parse(json.dumps(told))
    assert [(target.student, target.weight) for target in wanted.aliases["test"]] == shares
    found = wanted.aliases["test"][-1] if weight else wanted.shadows["test"]
    name, upstream = ("student-abcdef012345", "") if adapter else ("test", "http://test-canary.team.svc:8000")
    assert (found.model, found.upstream, found.student) == (name, upstream, "abcdef012345")
    assert bool(wanted.adapters) == adapter
    again = gateway.desired(of, BASE, "", adapter=adapter, newcomer=replace(tried, step="later"))
    assert again["generation"] != told["generation"], "counts begin anew with each step"


@pytest.mark.parametrize("spec", [{}, ADAPTER, KEYS, IN_S3])
def test_what_is_mounted_is_there(spec: dict[str, Any]):
    for made in everything(owner(**spec)):
        if template := made.get("spec", {}).get("template"):
            pod = template["spec"]
            volumes = [volume["name"] for volume in pod["volumes"]]
            volumes += [claim["metadata"]["name"] for claim in made["spec"].get("volumeClaimTemplates", [])]
            assert len(set(volumes)) == len(volumes)
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


@pytest.mark.parametrize(("size", "memory"), [(2_000_000, "1024Mi"), (1024, "1024Mi"), (100_000_000, "2519Mi")])
def test_the_gateway_has_memory_for_the_bodies_that_it_takes(size: int, memory: str):
    pod = serving_pod(owner(promotion={"service": {"gateway": {"limits": {"bodyBytes": size}}}}))
    assert pod["gateway"]["resources"]["limits"]["memory"] == memory


def test_a_served_vllm_that_hangs_is_ended_and_a_stages_is_not():
    probe = serving_pod(owner())["server"]["livenessProbe"]
    assert probe["exec"]["command"] == servers.hang_check(8002)
    assert probe["periodSeconds"] * probe["failureThreshold"] == 180
