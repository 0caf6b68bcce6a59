"""The placement of pods: settings of the chart and of the run, GPUs, and a volume that one node can mount. Pure.

A volume that one node mounts at a time binds all pods that mount it to the node of the first of them. So the first one
asks for as much as the largest, GPUs included, and those without a GPU tolerate the taints of nodes that have some.
Pods that do not mount the volume, such as the database's, are free to run elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import reduce
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from distillery.core.api import Spec
from distillery.core.api.spec.infrastructure import (
    PodTemplate,
    Resources,
    StageSettings,
    Toleration,
    asks_for_gpu,
    gpus,
)
from distillery.core.planner import Kind, StageId
from distillery_operator.model.names import RUN_LABEL, VOLUME_LABEL, RunRef
from distillery_operator.settings import Settings

_PLAYING = (Kind.ROLLOUT, Kind.TEACH, Kind.EVALUATE)


def stage_pods(owner: RunRef, stage: StageId, settings: Settings, *, gpu: bool) -> PodTemplate:
    """Return the settings of a stage's pods; ``gpu`` is whether one of their containers asks for a GPU."""
    return _with_volume(owner, settings, settings_of(owner.run.spec, stage.kind).pod_template, gpu=gpu)


def serving_pods(owner: RunRef, settings: Settings) -> PodTemplate:
    """Return the settings of the pods that serve a student."""
    spec = owner.run.spec
    return _with_volume(owner, settings, spec.serving.pod_template, gpu=asks_for_gpu(serving_resources(spec)))


def database_pods(owner: RunRef, settings: Settings) -> PodTemplate:
    """Return the settings of the quick-start database, which has an image of its own."""
    return _merge_layers(owner, settings, owner.run.spec.database.pod_template, gpu=False).model_copy(
        update={"image": None}
    )


def helper_pods(owner: RunRef, settings: Settings) -> PodTemplate:
    """Return the settings of Jobs that mount no volume: they have neither a GPU nor a stage."""
    return _merge_layers(owner, settings, PodTemplate(), gpu=False)


def volume_label(spec: Spec) -> dict[str, str]:
    """Return the label of pods that mount the run's volume; none where artifacts are elsewhere."""
    return {} if spec.storage.uri else {VOLUME_LABEL: "artifacts"}


def shares_one_node(spec: Spec) -> bool:
    """Return whether the run's volume can be mounted on one node only."""
    return spec.storage.uri is None and spec.storage.volume_claim.access_mode == "ReadWriteOnce"


def stage_resources(spec: Spec, kind: Kind) -> Resources:
    """Return the resources of a stage's worker; ``prepare``, the first pod of a run, may have to reserve more."""
    own = settings_of(spec, kind).resources
    return _largest(spec, own) if kind is Kind.PREPARE and shares_one_node(spec) and _gpu_names(spec) else own


def serving_resources(spec: Spec) -> Resources:
    """Return the resources of a model server that serves a student."""
    return spec.serving.resources or spec.model_server.resources


def settings_of(spec: Spec, kind: Kind) -> StageSettings:
    """Return the run's settings of a kind of stage."""
    return getattr(spec.stages, kind.value)


def _with_volume(owner: RunRef, settings: Settings, own: PodTemplate, *, gpu: bool) -> PodTemplate:
    spec = owner.run.spec
    bound = shares_one_node(spec)
    names = _gpu_names(spec) if gpu or bound else []
    pods = _tolerating(_merge_layers(owner, settings, own, gpu=bool(names)), names)
    if not bound or pods.affinity:
        return pods  # with an affinity of their own the user sees to it
    labels = {RUN_LABEL: owner.name, **volume_label(spec)}
    term: dict[str, Any] = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    return pods.model_copy(
        update={"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}
    )


def _merge_layers(owner: RunRef, settings: Settings, own: PodTemplate, *, gpu: bool) -> PodTemplate:
    """Return the settings of the chart, overridden by those of the run, and those by the component's."""
    spec = owner.run.spec
    if gpu:
        return reduce(
            _over, (settings.pod_template, settings.gpu_pod_template, spec.pod_template, spec.gpu_pod_template, own)
        )
    return reduce(_over, (settings.pod_template, spec.pod_template, own))


def _over(base: PodTemplate, override: PodTemplate) -> PodTemplate:
    """Return settings overridden by others, field by field; an empty field overrides nothing."""
    return base.model_copy(update={name: value for name, value in override if value})


def _tolerating(pods: PodTemplate, names: Iterable[str]) -> PodTemplate:
    """Return settings with the tolerations that the admission plug-in ExtendedResourceToleration adds for GPUs."""
    more = [Toleration(key=name, operator="Exists", effect="NoSchedule") for name in names]
    missing = [toleration for toleration in more if toleration not in pods.tolerations]
    return pods.model_copy(update={"tolerations": (*pods.tolerations, *missing)})


def _gpu_names(spec: Spec) -> list[str]:
    """Return the GPU resources that any pod of the run asks for."""
    return sorted({name for pod in _demands(spec) for resources in pod for name in gpus(resources.limits)})


def _demands(spec: Spec) -> Iterator[list[Resources]]:
    """Yield the resources of the containers, for each kind of pod that mounts the volume."""
    for kind in Kind:
        server = [spec.model_server.resources] if kind in _PLAYING else []
        yield [settings_of(spec, kind).resources, *server]
    yield [serving_resources(spec)]


def _largest(spec: Spec, own: Resources) -> Resources:
    """Return resources as large as those of the largest pod of the run: its node can hold every pod then."""

    def most(name: str) -> str:
        totals = (sum(map(parse_quantity, _read_requests(pod, name)), Decimal()) for pod in _demands(spec))
        return f"{max(totals).normalize():f}"

    requests = {**own.requests, **{name: most(name) for name in ("cpu", "memory") if most(name) != "0"}}
    limits = {name: max(limit, requests.get(name, "0"), key=parse_quantity) for name, limit in own.limits.items()}
    return Resources(requests=requests, limits={**limits, **{name: most(name) for name in _gpu_names(spec)}})


def _read_requests(pod: Iterable[Resources], name: str) -> Iterator[str]:
    return (resources.requests.get(name) or resources.limits.get(name, "0") for resources in pod)
