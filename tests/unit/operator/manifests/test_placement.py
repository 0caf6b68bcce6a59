"""Where the pods of a run may be: GPU pods on GPU nodes, and what mounts a volume next to what mounts it."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.core.planner import Kind
from distillery_operator.manifests import database, jobs, servers
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest
from distillery_operator.settings import Settings
from tests.unit.operator.manifests.test_manifests import DIGEST, SETTINGS, STUDENT, everything, job, owner, serving

GPU: dict[str, Any] = {
    "modelServer": {"resources": {"requests": {"cpu": "7500m", "memory": "48Gi"}, "limits": {"nvidia.com/gpu": "2"}}},
    "stages": {
        "train": {"resources": {"limits": {"nvidia.com/gpu": "1"}}},
        "rollout": {"resources": {"requests": {"cpu": "1"}}},
    },
}
POOL: dict[str, Any] = {
    "gpuPodTemplate": {"nodeSelector": {"pool": "gpu"}, "tolerations": [{"key": "spot", "operator": "Exists"}]}
}
IN_S3: dict[str, Any] = {"storage": {"uri": "s3://bucket/runs"}}
TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def templates(of: RunRef) -> list[Manifest]:
    return [made["spec"]["template"] for made in everything(of) if "template" in made.get("spec", {})]


def mounts_claim(template: Manifest) -> bool:
    return any("persistentVolumeClaim" in volume for volume in template["spec"]["volumes"])


def database_pod(of: RunRef, settings: Settings = SETTINGS) -> Manifest:
    return database.stateful_set(of, settings)["spec"]["template"]["spec"]


def stage_pod(kind: Kind, of: RunRef) -> Manifest:
    return job(kind, of)["spec"]["template"]["spec"]


def asked(pod: Manifest, name: str) -> str:
    return pod["containers"][0]["resources"]["limits"].get(name, "0")


@pytest.mark.parametrize("spec", [{}, GPU, {**GPU, "promotion": {"weights": "merged"}}])
def test_pods_have_affinity_to_pods_that_mount_the_same_volume(spec: dict[str, Any]):
    made = templates(owner(**spec))
    assert any(not mounts_claim(template) for template in made)
    for template in filter(mounts_claim, made):
        affinity = template["spec"]["affinity"]["podAffinity"]
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        wanted = term["labelSelector"]["matchLabels"].items()
        followed = [mounts_claim(other) for other in made if wanted <= other["metadata"]["labels"].items()]
        assert followed == [True] * sum(map(mounts_claim, made)), "the first of them follows itself"


def test_pods_have_no_affinity_when_several_nodes_can_mount_the_volume():
    for storage in ({"volumeClaim": {"accessMode": "ReadWriteMany"}}, IN_S3["storage"]):
        assert not any("affinity" in template["spec"] for template in templates(owner(storage=storage)))


def test_first_pod_asks_for_as_much_as_the_largest():
    prepare = stage_pod(Kind.PREPARE, owner(**GPU))
    resources = prepare["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == "2"
    assert resources["requests"] == {"cpu": "8.5", "memory": str(48 * 2**30)}
    assert TAINT in prepare["tolerations"]
    assert asked(stage_pod(Kind.HINTS, owner(**GPU)), "nvidia.com/gpu") == "0"


@pytest.mark.parametrize(
    "spec", [{}, {**GPU, **IN_S3}, {**GPU, "storage": {"volumeClaim": {"accessMode": "ReadWriteMany"}}}]
)
def test_first_pod_asks_for_no_gpu_when_no_volume_binds_it(spec: dict[str, Any]):
    prepare = stage_pod(Kind.PREPARE, owner(**spec))
    assert prepare["containers"][0]["resources"]["requests"] == {"cpu": "50m", "memory": "256Mi"}
    assert asked(prepare, "nvidia.com/gpu") == "0"
    assert "tolerations" not in prepare


def test_first_pod_keeps_a_limit_that_holds_its_request():
    small: dict[str, Any] = {**GPU, "stages": {"prepare": {"resources": {"limits": {"memory": "1Gi"}}}}}
    resources = stage_pod(Kind.PREPARE, owner(**small))["containers"][0]["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"] == str(48 * 2**30)


def test_gpu_settings_reach_gpu_pods_alone_when_artifacts_are_in_s3():
    of = owner(**GPU, **POOL, **IN_S3, podTemplate={"nodeSelector": {"pool": "cpu"}})
    for pod in (stage_pod(Kind.ROLLOUT, of), stage_pod(Kind.TRAIN, of), serving(of)["spec"]["template"]["spec"]):
        assert pod["nodeSelector"] == {"pool": "gpu"}
        assert pod["tolerations"] == [{"key": "spot", "operator": "Exists"}, TAINT]
    migrate = jobs.migration_job(of, SETTINGS)["spec"]["template"]["spec"]
    for pod in (database_pod(of), migrate, stage_pod(Kind.PREPARE, of), stage_pod(Kind.HINTS, of)):
        assert pod["nodeSelector"] == {"pool": "cpu"}
        assert "tolerations" not in pod


def test_gpu_settings_reach_all_pods_that_mount_a_single_node_volume():
    of = owner(**GPU, **POOL)
    for template in templates(of):
        there = template["spec"].get("nodeSelector") == {"pool": "gpu"} and TAINT in template["spec"]["tolerations"]
        assert there == mounts_claim(template)


def test_stage_needs_no_gpu_node_when_an_endpoint_plays():
    endpoint: dict[str, Any] = {"baseURL": "http://llm/v1", "model": "qwen"}
    models: dict[str, Any] = {"student": {"model": "/m", "endpoint": endpoint}}
    of = owner(**GPU, **POOL, **IN_S3, models=models)
    assert "nodeSelector" not in stage_pod(Kind.ROLLOUT, of)


def test_pod_template_of_a_component_overrides_that_of_the_run():
    own: dict[str, Any] = {
        "podTemplate": {"priorityClassName": "low"},
        "serving": {"podTemplate": {"priorityClassName": "high"}},
        "database": {"podTemplate": {"nodeSelector": {"pool": "db"}}},
    }
    of = owner(**GPU, **POOL, **own)
    pod = serving(of)["spec"]["template"]["spec"]
    assert (pod["priorityClassName"], pod["nodeSelector"]) == ("high", {"pool": "gpu"})
    assert (database_pod(of)["priorityClassName"], database_pod(of)["nodeSelector"]) == ("low", {"pool": "db"})
    assert of.identity == owner(**GPU).identity, "placement changes nothing that is learned"


def test_chart_pod_templates_apply_when_the_run_leaves_a_field_out():
    environment = {
        "DISTILLERY_POD_TEMPLATE": '{"imagePullSecrets": [{"name": "registry"}], "priorityClassName": "batch"}',
        "DISTILLERY_GPU_POD_TEMPLATE": '{"nodeSelector": {"pool": "gpus"}}',
    }
    settings = Settings.from_environment(environment)
    of = owner(**GPU, **IN_S3, podTemplate={"priorityClassName": "mine"})
    for pod in (
        database_pod(of, settings),
        servers.deployment(of, STUDENT, DIGEST, settings)["spec"]["template"]["spec"],
    ):
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert pod["priorityClassName"] == "mine"
        assert pod.get("nodeSelector") == ({"pool": "gpus"} if "initContainers" in pod else None)


def test_settings_name_the_variable_and_field_when_a_pod_template_is_wrong():
    with pytest.raises(ValueError, match=r"(?s)DISTILLERY_POD_TEMPLATE .*spec\.podTemplate.*imagePullSecrets"):
        Settings.from_environment({"DISTILLERY_POD_TEMPLATE": '{"imagePullSecrets": ["registry"]}'})
