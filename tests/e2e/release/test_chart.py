"""The chart, before it is installed: what it refuses, what it grants, what it makes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from distillery.core.api.spec.infrastructure import PodTemplate
from distillery.stages.runtime.progress_server import Status
from distillery_gateway.metrics import Metrics as GatewayMetrics
from distillery_operator.metrics import Metrics as OperatorMetrics
from distillery_operator.settings import Settings
from hack import kustomize
from tests.e2e.conftest import CHART, REGISTRY, RELEASE, SYSTEM, template
from tests.e2e.support.cluster import Cluster
from tests.fakes.cluster import FakeCluster, run_object


def kinds(manifests: list[dict[str, Any]]) -> set[str]:
    """Their kinds."""
    return {manifest["kind"] for manifest in manifests}


def test_helm_lint_reports_nothing(cluster: Cluster):
    assert "0 chart(s) failed" in cluster.helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("replica=2", "additional properties 'replica' not allowed"),
        ("replicas=-1", "minimum: got -1, want 0"),
        ("replicas=two", "got string, want integer"),
        ("image.tagg=1", "additional properties 'tagg' not allowed"),
        ("image.pullPolicy=Sometimes", "value must be one of"),
        ("images.gateway.digest=latest", "does not match pattern"),
        ("images.pipeline=mine:1", "got string, want object"),
        ("imagePullSecrets={mine}", "got string, want object"),
        ("logLevel=LOUD", "value must be one of"),
        ("watchNamespaces=team-a", "got string, want array"),
        ("watchNamespaces={Team A}", "does not match pattern"),
        ("allowed.image={ghcr.io}", "additional properties 'image' not allowed"),
        ("allowed.images=ghcr.io", "got string, want array"),
        ("allowed.images={a b}", "does not match pattern"),
    ],
)
def test_wrong_values_are_refused_with_their_name(cluster: Cluster, value: str, message: str):
    done = cluster.run("helm", "template", RELEASE, str(CHART), f"--set={value}")
    assert done.returncode != 0
    assert message in done.stderr
    assert value.split("=")[0].split(".")[0].removesuffix("a") in done.stderr


def test_no_grant_lets_a_secret_be_read_and_none_is_a_wildcard(cluster: Cluster):
    for role in template(cluster):
        for rule in role.get("rules", []):
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["create"]
            assert not {"pods/exec", "pods/log", "nodes"} & set(rule["resources"])


def test_named_namespaces_get_roles_and_nothing_is_granted_elsewhere(cluster: Cluster):
    everywhere = template(cluster)
    assert {"ClusterRole", "ClusterRoleBinding"} <= kinds(everywhere)
    narrow = template(cluster, "watchNamespaces={team-a,team-b}")
    assert "ClusterRoleBinding" not in kinds(narrow)
    assert "ClusterRole" not in kinds(template(cluster, "watchNamespaces={team-a}", "aggregatedRoles.enabled=false"))
    places = {manifest["metadata"]["namespace"] for manifest in narrow if manifest["kind"] == "RoleBinding"}
    assert places == {"team-a", "team-b", SYSTEM}


def test_roles_are_added_to_view_edit_and_admin(cluster: Cluster):
    prefix, verbs = "rbac.authorization.k8s.io/aggregate-to-", dict[str, set[str]]()
    for role in template(cluster):
        for label in role["metadata"].get("labels", {}):
            if label.startswith(prefix):
                verbs[label.removeprefix(prefix)] = set(role["rules"][0]["verbs"])
                assert all(rule["apiGroups"] == ["distillery.dev"] for rule in role["rules"])
                assert role["rules"][1] == {
                    **role["rules"][1],
                    "resources": ["distillationruns/status"],
                    "verbs": ["get"],
                }
    assert verbs["view"] == {"get", "list", "watch"}
    assert verbs["edit"] == verbs["admin"] > verbs["view"] | {"create", "patch", "update", "delete"}


def test_operator_names_no_ids_when_the_platform_assigns_them(cluster: Cluster):
    for values, named in (((), True), (("platformAssignsIds=true",), False)):
        (deployment,) = (m for m in template(cluster, *values) if m["kind"] == "Deployment")
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert ("runAsUser" in pod["securityContext"], "runAsGroup" in pod["securityContext"]) == (named, named)
        assert read_settings(pod).platform_assigns_ids is not named


def test_operator_gets_the_allowed_values(cluster: Cluster):
    values = ["allowed.images={ghcr.io/team,docker.io/vllm}", "allowed.endpoints={*.example.com}"]
    names = ("serviceAccounts", "priorityClasses", "runtimeClasses")
    values += [f"allowed.{name}={{{name.lower()}}}" for name in names]
    (deployment,) = (m for m in template(cluster, *values) if m["kind"] == "Deployment")
    settings = read_settings(deployment["spec"]["template"]["spec"])
    assert settings.allowed_images == ("ghcr.io/team", "docker.io/vllm")
    assert settings.allowed_endpoints == ("*.example.com",)
    assert settings.allowed_service_accounts == ("serviceaccounts",)
    assert settings.allowed_priority_classes == ("priorityclasses",)
    assert settings.allowed_runtime_classes == ("runtimeclasses",)


def test_two_releases_have_leases_of_their_own(cluster: Cluster):
    leases = set[str]()
    for release in ("distillery", "other"):
        manifests = list(
            yaml.safe_load_all(
                cluster.helm("template", release, str(CHART), f"--namespace={SYSTEM}", f"--set=registry={REGISTRY}")
            )
        )
        (lead,) = (m for m in manifests if m["kind"] == "Role" and m["metadata"]["name"].endswith("-lead"))
        (granted,) = (rule["resourceNames"] for rule in lead["rules"] if "resourceNames" in rule)
        (deployment,) = (m for m in manifests if m["kind"] == "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (used,) = (v["value"] for v in container["env"] if v["name"] == "DISTILLERY_LEASE_NAME")
        assert granted == [used]
        leases.add(used)
    assert leases == {"distillery-operator", "other-distillery-operator"}


def test_optional_parts_are_off_by_default(cluster: Cluster):
    optional = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap", "PodDisruptionBudget"}
    assert not optional & kinds(template(cluster))
    on = [f"{name}.enabled=true" for name in ("serviceMonitor", "alerts", "dashboards")]
    assert optional <= kinds(template(cluster, *on, "replicas=2"))
    crd = next(m for m in template(cluster) if m["kind"] == "CustomResourceDefinition")
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "CustomResourceDefinition" not in kinds(template(cluster, "crds.enabled=false"))


def test_monitors_find_the_pods_of_runs_and_their_ports(cluster: Cluster):
    run = FakeCluster(run_object())
    assert run.run() == "Complete"
    found = set[str]()
    for monitor in template(cluster, "serviceMonitor.enabled=true"):
        if monitor["kind"] != "PodMonitor":
            continue
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        for labels, ports in run_pods(run):
            if ports and selects(monitor["spec"]["selector"], labels):  # the Job for the schema has none
                assert endpoint["port"] in ports
                found.add(labels["app.kubernetes.io/component"])
    assert found == {"stage", "serving"}


def run_pods(run: FakeCluster) -> Iterator[tuple[dict[str, str], set[str]]]:
    """Labels and named ports of the pods that a run's stages and servers have."""
    for (kind, _), thing in run.objects.items():
        if kind in ("Job", "Deployment"):
            pod = thing["spec"]["template"]
            containers = (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])
            yield pod["metadata"]["labels"], {port["name"] for c in containers for port in c.get("ports", [])}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector matches."""
    among = [labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", [])]
    return selector["matchLabels"].items() <= labels.items() and all(among)


def test_every_container_of_the_chart_asks_for_cpu_and_memory(cluster: Cluster):
    for pod in pods(template(cluster)):
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_operator_has_five_minutes_to_start_when_its_node_is_busy(cluster: Cluster):
    (pod,) = pods(template(cluster))
    startup = pod["containers"][0]["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 300
    assert startup["httpGet"] == pod["containers"][0]["livenessProbe"]["httpGet"]


def test_replicas_are_spread_over_zones_and_nodes(cluster: Cluster):
    (alone,), (pod,) = pods(template(cluster)), pods(template(cluster, "replicas=2"))
    assert "topologySpreadConstraints" not in alone
    (constraint,) = pod["topologySpreadConstraints"]
    assert (constraint["topologyKey"], constraint["whenUnsatisfiable"]) == (
        "topology.kubernetes.io/zone",
        "ScheduleAnyway",
    )
    assert "podAntiAffinity" in pod["affinity"]


def test_images_without_a_registry_are_refused(cluster: Cluster):
    done = cluster.run("helm", "template", RELEASE, str(CHART))
    assert done.returncode != 0
    assert "registry: name the registry with Distillery's images" in done.stderr


def test_global_registry_replaces_every_other(cluster: Cluster):
    images = list(named_images(template(cluster, "global.imageRegistry=mirror.example.com/all")))
    assert len(images) == 6
    assert all(image.startswith("mirror.example.com/all/") for image in images)


@pytest.mark.parametrize("image", ["image", "images.pipeline", "images.gpuServer", "images.gateway", "images.postgres"])
def test_image_is_pinned_by_its_digest(cluster: Cluster, image: str):
    digest = f"sha256:{'0123456789abcdef' * 4}"
    (pinned,) = (name for name in named_images(template(cluster, f"{image}.digest={digest}")) if digest in name)
    assert re.fullmatch(rf"[a-z.]+/[a-z/-]+@{digest}", pinned)


def test_pull_secrets_reach_the_operator_and_the_pods_of_runs(cluster: Cluster):
    values = (
        "imagePullSecrets[0].name=mine",
        "global.imagePullSecrets[0].name=all",
        "runs.podTemplate.priorityClassName=low",
    )
    (pod,) = pods(template(cluster, *values))
    settings = read_settings(pod)
    assert pod["imagePullSecrets"] == [{"name": "all"}, {"name": "mine"}]
    assert [secret.name for secret in settings.pod_template.image_pull_secrets] == ["all", "mine"]
    assert settings.pod_template.priority_class_name == "low"
    (pod,) = pods(template(cluster))
    assert "imagePullSecrets" not in pod
    assert read_settings(pod).pod_template == PodTemplate()


def pods(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pods that manifests make."""
    return [m["spec"]["template"]["spec"] for m in manifests if "template" in m.get("spec", {})]


def read_settings(pod: dict[str, Any]) -> Settings:
    """The settings that the operator reads in a pod."""
    return Settings.from_environment(variables(pod))


def variables(pod: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a pod's container."""
    return {variable["name"]: variable.get("value", "") for variable in pod["containers"][0]["env"]}


def named_images(manifests: list[dict[str, Any]]) -> Iterator[str]:
    """The operator's image, and those that its settings name."""
    (pod,) = pods(manifests)
    yield pod["containers"][0]["image"]
    yield from (value for name, value in variables(pod).items() if name.endswith("_IMAGE"))


def test_kustomize_base_equals_the_chart(cluster: Cluster):
    rendered = cluster.helm(*kustomize.RENDER)
    assert kustomize.BASE.read_text() == kustomize.generate(rendered), "run `make kustomize`"


def test_kustomize_overlay_has_the_objects_of_the_chart(cluster: Cluster):
    of_helm = {(m["kind"], m["metadata"]["name"]) for m in template(cluster)}
    assert {(m["kind"], m["metadata"]["name"]) for m in build_overlay(cluster)} == {*of_helm, ("Namespace", SYSTEM)}


def test_kustomize_overlay_replaces_the_registry_of_every_image(cluster: Cluster):
    images = sorted(named_images(build_overlay(cluster)))
    assert images == sorted(named_images(template(cluster, "registry=localhost")))


def build_overlay(cluster: Cluster) -> list[dict[str, Any]]:
    """The objects of the overlay that teams copy."""
    done = cluster.run("kubectl", "kustomize", str(kustomize.BASE.parents[1] / "overlay"))
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_alerts_pass_the_rule_tests_of_promtool(cluster: Cluster, tmp_path: Path):
    rendered = template(cluster, "alerts.enabled=true")
    rules = next(manifest for manifest in rendered if manifest["kind"] == "PrometheusRule")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    shutil.copy(Path(__file__).with_name("alerts.yaml"), tmp_path)
    done = cluster.run("promtool", "test", "rules", str(tmp_path / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "registry", [OperatorMetrics().registry, GatewayMetrics().registry, Status("r1-rollout").registry]
)
def test_metrics_follow_the_conventions_of_prometheus(cluster: Cluster, registry: CollectorRegistry):
    done = cluster.run("promtool", "check", "metrics", stdin=generate_latest(registry).decode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_refuses_a_gauge_that_is_named_like_a_counter(cluster: Cluster):
    done = cluster.run(
        "promtool", "check", "metrics", stdin="# HELP a_total A gauge.\n# TYPE a_total gauge\na_total 1\n"
    )
    assert done.returncode != 0


def test_kube_score_finds_nothing_critical(cluster: Cluster):
    rendered = cluster.helm(
        "template", RELEASE, str(CHART), f"--namespace={SYSTEM}", f"--set=replicas=2,registry={REGISTRY}"
    )
    # images have fixed tags: pulling them again at each start, as it wants, would only tie a start to the registry
    done = cluster.run(
        "kube-score", "score", "-", "--output-format=ci", "--ignore-test=container-image-pull-policy", stdin=rendered
    )
    assert "[OK]" in done.stdout
    assert "[CRITICAL]" not in done.stdout, done.stdout
