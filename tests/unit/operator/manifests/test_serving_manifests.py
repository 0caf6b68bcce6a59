"""What serves a student: servers, gateway, syncer and who reaches them."""

from __future__ import annotations

import inspect
import itertools
import re
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from distillery.core.contracts.routing import Adapter, RoutingConfig, Target
from distillery.core.planner import Kind, Model
from distillery.core.planner.graph import BASE
from distillery_gateway import main as gateway_main
from distillery_gateway.routing.table import Routes
from distillery_gateway.settings import Settings as GatewaySettings
from distillery_gateway.syncer.settings import Settings as SyncerSettings
from distillery_operator.manifests import canary_servers, gateway, servers, vllm
from distillery_operator.model.objects import Manifest
from distillery_operator.settings import Settings
from tests.unit.operator.manifests.test_manifests import (
    ADAPTER,
    DIGEST,
    GPU,
    IN_S3,
    KEYS,
    SETTINGS,
    STUDENT,
    everything,
    job,
    owner,
    serving,
    serving_pod,
    variables,
)


def test_rolling_update_keeps_every_pod_when_the_student_changes():
    made = serving(owner(serving={"replicas": 2}))
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    other = serving(owner(), digest="fedcba9876543210")
    assert made["spec"]["selector"] == other["spec"]["selector"]
    assert made["spec"]["template"]["metadata"]["labels"] != other["spec"]["template"]["metadata"]["labels"]


@pytest.mark.parametrize("spec", [{}, GPU, ADAPTER])
def test_vllm_listens_on_loopback_only(spec: dict[str, Any]):
    pod = serving_pod(owner(**spec))
    command = pod["server"]["command"]
    assert (command[command.index("--host") + 1], command[command.index("--port") + 1]) == ("127.0.0.1", "8001")
    assert "ports" not in pod["server"]
    assert servers.service(owner(**spec))["spec"]["ports"][0]["targetPort"] == "http"
    ports = {port["name"]: port["containerPort"] for c in pod["containers"] for port in c["ports"]}
    assert ports == {"http": 8000, "admin": 8002}


def test_vllm_allows_loading_of_adapters_only_next_to_a_syncer():
    merged, adapter = serving_pod(owner()), serving_pod(owner(**ADAPTER))
    assert [c["name"] for c in merged["initContainers"]] == ["fetch", "server"]
    assert [c["name"] for c in adapter["initContainers"]] == ["fetch", "server", "syncer"]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in variables(merged["server"])
    assert variables(adapter["server"])["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    sidecar = job(Kind.ROLLOUT, owner(**ADAPTER))["spec"]["template"]["spec"]["initContainers"][-1]
    for server in (merged["server"], adapter["server"], sidecar):
        assert "VLLM_SERVER_DEV_MODE" not in variables(server)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in variables(sidecar)


def test_pod_starts_with_the_base_model_alone_when_it_serves_adapters():
    of = owner(**ADAPTER, training={"lora": {"rank": 24}})
    pod = serving_pod(of)
    assert serving(of) == serving(of, BASE, "") == serving(of, digest="fedcba9876543210")
    command = pod["server"]["command"]
    assert command[command.index("--model") + 1] == "/models/tiny"
    assert command[command.index("--served-model-name") + 1] == "base"
    assert command[command.index("--max-lora-rank") + 1] == "32"
    assert "--lora-modules" not in command
    assert "--artifact" not in pod["fetch"]["command"]


def test_merged_server_answers_to_its_student_and_to_the_run():
    of = owner()
    command = serving_pod(of)["server"]["command"]
    at = command.index("--served-model-name")
    assert command[at + 1 : at + 4] == ["student-abcdef012345", "test", "--host"]
    assert command[command.index("--model") + 1] == f"/artifacts/{of.identity.key}/r1-train-distilled/merged"


def test_gateway_starts_before_requests_and_ends_before_vllm():
    pod = serving_pod(owner(**ADAPTER))
    assert pod["gateway"]["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 8002}
    assert not {"readinessProbe"} & (pod["server"].keys() | pod["syncer"].keys()), "the gateway answers for them"
    assert pod["server"]["startupProbe"]["exec"]["command"] == vllm.health_check(8001)
    # native sidecars end after the containers, in the reverse order of their start
    assert [c["name"] for c in pod["containers"]] == ["gateway"]
    assert pod["server"]["restartPolicy"] == pod["syncer"]["restartPolicy"] == "Always"
    leaving = pod["gateway"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    source = inspect.getsource(gateway_main)
    drain = re.search(r"timeout_graceful_shutdown=(\d+)", source)
    assert drain
    assert pod["terminationGracePeriodSeconds"] >= leaving + int(drain[1]) + 10


@pytest.mark.parametrize("name", ["gateway", "syncer"])
def test_gateway_and_syncer_have_small_resources(name: str):
    resources = serving_pod(owner(**ADAPTER))[name]["resources"]
    assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
    assert resources["requests"]["memory"] in ("96Mi", "128Mi")


def test_gateway_reads_the_settings_of_its_container():
    limits = {"maxTokens": 64, "requestsPerMinute": 10}
    given = {**KEYS["serving"]["gateway"], "limits": limits, "deniedParameters": ["n", "tools"]}
    pod = serving_pod(owner(serving={"gateway": given}))
    settings = GatewaySettings.from_environment(variables(pod["gateway"]))
    assert (settings.upstream, settings.port, settings.admin_port) == ("http://127.0.0.1:8001", 8000, 8002)
    assert (settings.limits.max_tokens, settings.limits.requests_per_minute) == (64, 10)
    assert settings.denied == {"n", "tools"}


def test_gateway_mounts_the_folders_that_its_settings_name():
    pod = serving_pod(owner(**KEYS))
    settings = GatewaySettings.from_environment(variables(pod["gateway"]))
    mounts = {m["mountPath"]: m for m in pod["gateway"]["volumeMounts"]}
    assert mounts[str(settings.api_keys)]["readOnly"]
    desired = mounts[str(settings.routing_file.parent)]
    assert "subPath" not in desired, "the kubelet never changes those"
    (volume,) = (v for v in pod["volumes"] if v["name"] == desired["name"])
    made = gateway.config_map(owner(), RoutingConfig())
    assert volume["configMap"]["name"] == made["metadata"]["name"] == "test-serving"
    assert list(made["data"]) == [settings.routing_file.name]


def test_syncer_reads_the_settings_of_its_container():
    pod = serving_pod(owner(**ADAPTER))
    settings = SyncerSettings.from_environment(variables(pod["syncer"]))
    assert (settings.upstream, settings.gateway) == ("http://127.0.0.1:8001", "http://127.0.0.1:8002")
    assert (settings.port, settings.identity) == (8003, owner(**ADAPTER).identity)
    mounts = {m["mountPath"] for m in pod["syncer"]["volumeMounts"]}
    assert {str(settings.routing_file.parent), str(settings.adapters), str(settings.cache)} <= mounts


@pytest.mark.parametrize(("spec", "denied"), [({}, {"seed"}), (GPU, set()), (ADAPTER, {"seed"})])
def test_seed_is_denied_when_vllm_runs_on_a_cpu(spec: dict[str, Any], denied: set[str]):
    settings = GatewaySettings.from_environment(variables(serving_pod(owner(**spec))["gateway"]))
    assert settings.denied == denied
    own = owner(serving={"gateway": {"deniedParameters": []}})
    assert not GatewaySettings.from_environment(variables(serving_pod(own)["gateway"])).denied


@pytest.mark.parametrize("student", [STUDENT, BASE])
@pytest.mark.parametrize("adapter", [True, False])
def test_routing_document_applies_to_the_models_that_pods_hold(student: Model, adapter: bool):
    digest = DIGEST if student is STUDENT else ""
    of = owner(**ADAPTER) if adapter else owner(promotion={"weights": "merged"})
    config = gateway.routing_document(of, student, digest, adapter=adapter)
    held = {adapter.name for adapter in config.adapters}
    command = serving(of, student, digest)["spec"]["template"]["spec"]["initContainers"][1]["command"]
    at = command.index("--served-model-name")
    held |= set(itertools.takewhile(lambda word: not word.startswith("--"), command[at + 1 :]))
    routes = Routes()
    assert routes.try_apply(config, held)
    assert set(routes.aliases) == {"test"}
    assert config.generation
    if adapter and student is STUDENT:
        assert config.adapters == (Adapter("student-abcdef012345", "r1-train-distilled", DIGEST),)


def test_only_the_syncer_writes_adapters_and_it_reads_the_artifacts():
    of = owner(**ADAPTER)
    pod = serving_pod(of)
    read_only = {c: {m["name"]: m.get("readOnly", False) for m in pod[c]["volumeMounts"]} for c in ("server", "syncer")}
    assert read_only["syncer"] == {"desired": True, "artifacts": True, "adapters": False}
    assert read_only["server"]["adapters"]
    environment = variables(pod["syncer"])
    assert (environment["DISTILLERY_STORE_URI"], environment["DISTILLERY_IDENTITY"]) == (
        "file:///artifacts",
        str(of.identity),
    )
    assert {m["mountPath"] for m in pod["server"]["volumeMounts"]} >= {environment["DISTILLERY_ADAPTERS_DIR"]}


def test_only_the_syncer_has_credentials_when_artifacts_are_in_s3():
    pod = serving_pod(owner(**ADAPTER, **IN_S3))

    def secret_mounts(container: str) -> list[str]:
        return [m["mountPath"] for m in pod[container]["volumeMounts"] if "secret" in m["name"]]

    assert [secret_mounts(c) for c in ("fetch", "server", "gateway")] == [[], [], []]
    (mounted,) = secret_mounts("syncer")
    environment = variables(pod["syncer"])
    assert environment["AWS_SHARED_CREDENTIALS_FILE"] == f"{mounted}/credentials"
    assert (environment["DISTILLERY_STORE_URI"], environment["DISTILLERY_STORE_ENDPOINT_URL"]) == (
        "s3://bucket/runs/team/test",
        "http://s3:7070",
    )
    assert not {m["name"]: m.get("readOnly") for m in pod["syncer"]["volumeMounts"]}["artifacts"]


def test_only_the_gateway_sees_the_keys_of_clients():
    pod = serving_pod(owner(promotion={"weights": "adapter"}, **KEYS))
    see = {c for c in ("fetch", "server", "syncer", "gateway") for m in pod[c]["volumeMounts"] if m["name"] == "keys"}
    assert see == {"gateway"}
    (volume,) = (v for v in pod["volumes"] if v["name"] == "keys")
    assert volume["secret"]["secretName"] == "clients"


def test_admin_port_admits_the_operator_and_named_collectors():
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


def test_canary_admin_port_is_open_only_to_the_peers_of_the_chart():
    monitoring = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    policy = gateway.network_policy(owner(), Settings(metrics_from=(monitoring,)), gateway.CANARY)
    _, metrics = policy["spec"]["ingress"]
    assert metrics == {"from": [monitoring], "ports": [{"port": 8002, "protocol": "TCP"}]}


class CanaryManifests(NamedTuple):
    policy: Manifest
    config: Manifest
    deployment: Manifest
    service: Manifest

    @property
    def pod(self) -> Manifest:
        return self.deployment["spec"]["template"]["spec"]

    @property
    def labels(self) -> Manifest:
        return self.deployment["spec"]["template"]["metadata"]["labels"]


MERGED_CANARY = owner(promotion={"weights": "merged"}, serving={"replicas": 3})


def canary_manifests() -> CanaryManifests:
    return CanaryManifests(*canary_servers.manifests(MERGED_CANARY, STUDENT, DIGEST, SETTINGS, replicas=2))


def test_canary_has_replicas_and_a_service_of_its_own():
    made = canary_manifests()
    assert [each["metadata"]["name"] for each in (made.deployment, made.service)] == ["test-canary"] * 2
    assert made.deployment["spec"]["replicas"] == 2
    assert made.service["spec"]["selector"].items() <= made.labels.items()
    assert not servers.service(MERGED_CANARY)["spec"]["selector"].items() <= made.labels.items()


def test_canary_servers_admit_only_the_gateways_of_the_run():
    made = canary_manifests()
    assert made.policy["spec"]["podSelector"]["matchLabels"].items() <= made.labels.items()
    (gateways,) = made.policy["spec"]["ingress"]
    assert gateways == {
        "from": [{"podSelector": {"matchLabels": MERGED_CANARY.selector("serving")}}],
        "ports": [{"port": 8000, "protocol": "TCP"}],
    }


def test_canary_pods_mount_a_routing_config_with_the_canary_alone():
    made = canary_manifests()
    (volume,) = (v for v in made.pod["volumes"] if v["name"] == "desired")
    assert volume["configMap"]["name"] == made.config["metadata"]["name"]
    config = RoutingConfig.parse(made.config["data"]["desired"])
    assert config.aliases == {"test": (Target("test", student="abcdef012345"),)}


def test_canary_pods_equal_serving_pods_but_for_the_limits_of_keys():
    own, main = canary_manifests().pod, serving(MERGED_CANARY)["spec"]["template"]["spec"]
    assert own["initContainers"] == main["initContainers"]
    (of_canary,), (of_stable,) = own["containers"], main["containers"]
    assert variables(of_canary) == {**variables(of_stable), "DISTILLERY_PER_KEY_LIMITS": "false"}
    assert {**of_canary, "env": []} == {**of_stable, "env": []}


@pytest.mark.parametrize(("weight", "shares"), [(10, [("base", 90), ("abcdef012345", 10)]), (0, [("base", 100)])])
@pytest.mark.parametrize("adapter", [True, False])
def test_canary_has_a_share_or_gets_copies(weight: int, shares: list[tuple[str, int]], adapter: bool):
    of = owner(**ADAPTER) if adapter else owner(promotion={"weights": "merged"})
    tried = gateway.CanaryRoute(STUDENT, DIGEST, weight, "now", 5.0)
    config = gateway.routing_document(of, BASE, "", adapter=adapter, canary=tried)
    assert [(target.student, target.weight) for target in config.aliases["test"]] == shares
    found = config.aliases["test"][-1] if weight else config.shadows["test"]
    name, upstream = ("student-abcdef012345", "") if adapter else ("test", "http://test-canary.team.svc:8000")
    assert (found.model, found.upstream, found.student) == (name, upstream, "abcdef012345")
    assert bool(config.adapters) == adapter
    again = gateway.routing_document(of, BASE, "", adapter=adapter, canary=replace(tried, step="later"))
    assert again.generation != config.generation, "each step starts its own counts"


@pytest.mark.parametrize("spec", [{}, ADAPTER, KEYS, IN_S3])
def test_mounted_volumes_exist(spec: dict[str, Any]):
    for made in everything(owner(**spec)):
        if template := made.get("spec", {}).get("template"):
            pod = template["spec"]
            volumes = [volume["name"] for volume in pod["volumes"]]
            volumes += [claim["metadata"]["name"] for claim in made["spec"].get("volumeClaimTemplates", [])]
            assert len(set(volumes)) == len(volumes)
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


@pytest.mark.parametrize(("size", "memory"), [(2_000_000, "1024Mi"), (1024, "1024Mi"), (100_000_000, "2519Mi")])
def test_gateway_has_memory_for_the_bodies_that_it_takes(size: int, memory: str):
    pod = serving_pod(owner(serving={"gateway": {"limits": {"maxBodyBytes": size}}}))
    assert pod["gateway"]["resources"]["limits"]["memory"] == memory


def test_hanging_vllm_is_ended_when_it_serves_users():
    probe = serving_pod(owner())["server"]["livenessProbe"]
    assert probe["exec"]["command"] == servers.hang_check(8002)
    assert probe["periodSeconds"] * probe["failureThreshold"] == 180
