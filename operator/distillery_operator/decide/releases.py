"""The rules for a newer release: it keeps the images of a run, and the pods that serve it. Pure.

A run keeps the images that were configured when the operator first saw it; the status lists them. A new value of the
annotation ``distillery.dev/upgrade-requested`` moves the run to the images that are configured then. PostgreSQL keeps
its major version: another one does not read its files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from distillery.core.api import GROUP, without_defaults
from distillery_operator import __version__
from distillery_operator.crd.status_schema import MAX_REQUEST
from distillery_operator.manifests import database
from distillery_operator.model.names import STUDENT_LABEL, RunRef, digest
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed
from distillery_operator.settings import Settings

UPGRADE_ANNOTATION = f"{GROUP}/upgrade-requested"
"""On a run: a new value moves it to the images of this release."""

RELEASE_ANNOTATION = f"{GROUP}/release"
"""On a workload: the release of the operator that made its pod template."""

INPUTS_ANNOTATION = f"{GROUP}/inputs"
"""On a workload: the digest of what decides its pod template, apart from the release."""

_IMAGES = {
    "pipeline": "pipeline_image",
    "gateway": "gateway_image",
    "gpuServer": "gpu_server_image",
    "cpuServer": "cpu_server_image",
    "postgres": "postgres_image",
}
_INPUTS = {
    "Deployment": ("models", "modelServer", "podTemplate", "gpuPodTemplate", "storage", "database"),
    "StatefulSet": ("podTemplate", "database"),
}
"""The parts of the specification that decide a pod template, by the kind of the workload."""

_NOT_OF_PODS = ("replicas", "pinnedRound", "canary")
"""The fields of ``spec.serving`` that decide how many pods serve, and which student, but no pod template."""


def choose_images(
    owner: RunRef, body: Manifest, status: Mapping[str, Any], observed: Observed, settings: Settings
) -> Manifest:
    """Return the status fields with the images of the run, and with the last request for others that was acted on.

    A run of a release that recorded no images gets today's, apart from its database.

    Args:
        owner: the run.
        body: the same as the API server has it.
        status: its status as the controller wrote it last.
        observed: its objects.
        settings: the operator's, with the images that are configured.
    """
    configured = {name: image for name, field in _IMAGES.items() if (image := getattr(settings, field))}
    recorded: Mapping[str, str] | None = status.get("images")
    request: str = body["metadata"].get("annotations", {}).get(UPGRADE_ANNOTATION, "")[:MAX_REQUEST]
    fields = {"upgradeRequest": request} if request else {}
    requested = recorded is not None and request not in ("", status.get("upgradeRequest", ""))
    images = configured if requested or recorded is None else {**configured, **recorded}
    present = (recorded or {}).get("postgres") or _image_of(observed.stateful_sets.get(database.name(owner)))
    if not present and status.get("startTime"):
        images.pop("postgres", None)  # of a run that is older than recorded images; its database was not seen yet
    elif present and not (requested and _major(present) == _major(configured.get("postgres", ""))):
        images["postgres"] = present
    return {"images": images, **fields}


def with_images(settings: Settings, images: Mapping[str, str]) -> Settings:
    """Return the operator's settings with the images of a run."""
    return replace(settings, **{_IMAGES[name]: image for name, image in images.items() if name in _IMAGES})


def keep_template(manifest: Manifest, owner: RunRef, status: Mapping[str, Any], observed: Observed) -> Manifest:
    """Return a manifest with the pod template that exists, if only another release would make another one.

    So an upgrade of the operator restarts no pods. They are replaced by what changes them anyhow: another student with
    merged weights, a change of the specification, or a request for other images.

    Args:
        manifest: of any kind; only Deployments and StatefulSets are concerned.
        owner: the run.
        status: the run's, with its images.
        observed: its objects.
    """
    workloads = {"Deployment": observed.deployments, "StatefulSet": observed.stateful_sets}.get(manifest["kind"])
    if workloads is None:
        return manifest
    inputs = digest(_inputs(owner, manifest, status))
    present = workloads.get(manifest["metadata"]["name"], {"metadata": {}})
    recorded = present["metadata"].get("annotations", {})
    release, spec = __version__, manifest["spec"]
    if recorded.get(INPUTS_ANNOTATION) == inputs and recorded.get(RELEASE_ANNOTATION) != __version__:
        release, spec = (
            recorded.get(RELEASE_ANNOTATION, ""),
            {**spec, "template": present["spec"]["template"]},
        )
    annotations = manifest["metadata"].get("annotations", {}) | {RELEASE_ANNOTATION: release, INPUTS_ANNOTATION: inputs}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": annotations}, "spec": spec}


def _inputs(owner: RunRef, manifest: Manifest, status: Mapping[str, Any]) -> list[Any]:
    spec: dict[str, Any] = without_defaults(owner.run)["spec"]
    inputs = [
        {name: spec[name] for name in _INPUTS[manifest["kind"]] if name in spec},
        status.get("images", {}),
        status.get("upgradeRequest", ""),
    ]
    if manifest["kind"] == "Deployment":
        serving = {key: value for key, value in spec.get("serving", {}).items() if key not in _NOT_OF_PODS}
        student = manifest["spec"]["template"]["metadata"]["labels"].get(STUDENT_LABEL)
        inputs += [serving, spec.get("promotion", {}).get("weights"), student]
    return inputs


def _image_of(workload: Manifest | None) -> str:
    return workload["spec"]["template"]["spec"]["containers"][0]["image"] if workload else ""


def _major(image: str) -> str:
    """Return the major version of PostgreSQL by a tag: ``pg17``, ``0.8.1-pg17`` or ``17.2``; else the image."""
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    match = re.search(r"pg(\d+)", tag) or re.match(r"(\d+)", tag)
    return match[1] if match else image
