"""The fields that decide what a run learns: a digest of them, and the list of all other fields, which may change.

The digest decides two things. A change that leaves it alone is accepted at any time; and artifacts are stored under it,
so that the product of one specification is never taken for that of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distillery.core.api.run import DistillationRun
from distillery.core.artifacts.base import digest_of

MUTABLE = (
    "suspend",
    "ttlSecondsAfterFinished",
    "queueName",
    "serving",
    "rollout.concurrency",
    "rollout.workers",
    "rollout.environmentProcesses",
    "rollout.leaseSeconds",
    "rollout.requestTimeoutSeconds",
    "rollout.patienceSeconds",
    "rollout.stepTimeoutSeconds",
    "rollout.maxAttempts",
    "training.packedSequenceLength",
    "training.checkpointIntervalSeconds",
    "models.student.endpoint.apiKeySecretRef",
    "models.teacher.endpoint.apiKeySecretRef",
    "models.extractor.endpoint.apiKeySecretRef",
    "environment.tokenSecretRef",
    "storage.credentialsSecretRef",
    "storage.volumeClaim.size",
    "storage.modelCache",
    "storage.retain",
    "database.resources",
    "database.podTemplate",
    "modelServer.image",
    "modelServer.resources",
    "podTemplate",
    "gpuPodTemplate",
    "stages",
)
"""The fields of the specification that may change while a run exists: they say when things happen, how they are carried
out, or what is served, and never what is learned. A field stands for all below it."""

GROWING = ("environment.tasks.evaluate",)
"""Numbers that may become larger while a run exists: nothing is learned from the tasks that come with it."""

MUTABLE_ARGUMENTS = (
    "--block-size",
    "--cpu-offload-gb",
    "--data-parallel-size",
    "--enforce-eager",
    "--gpu-memory-utilization",
    "--kv-cache-memory-bytes",
    "--max-num-batched-tokens",
    "--max-num-seqs",
    "--pipeline-parallel-size",
    "--swap-space",
    "--tensor-parallel-size",
)
"""Arguments of the model server that may change likewise: parallelism, memory, batching."""

ARGUMENTS = "modelServer.extraArgs"
"""The field that holds them, with others."""


@dataclass(frozen=True, slots=True)
class Change:
    """A field that two specifications differ in.

    Attributes:
        path: the field, as ``spec.training.seed``.
        old: its value in the first; None where it has none.
        new: its value in the second.
    """

    path: str
    old: Any
    new: Any


def extract_learned(run: DistillationRun) -> dict[str, Any]:
    """Return the part of the specification that decides what is learned, without fields at their defaults.

    A release that adds a field with a default therefore leaves the digests of existing runs as they were.
    """
    spec = run.model_dump(mode="json", by_alias=True, exclude_defaults=True)["spec"]
    return _without_mutable(spec, "", prune=True)


def digest_of_learned(run: DistillationRun) -> str:
    """Return the SHA-256 of :func:`extract_learned`."""
    return digest_of(extract_learned(run))


def learned_changes(old: DistillationRun, new: DistillationRun) -> list[Change]:
    """Return the fields in which two runs learn differently, and numbers that shrank although they can only grow."""
    documents = [run.model_dump(mode="json", by_alias=True)["spec"] for run in (old, new)]
    first, second = (_without_mutable(document, "") for document in documents)
    return [*_find_changes(first, second, "spec"), *_find_shrunk(*documents)]


def without_mutable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document's ``spec`` without the fields that may change, whether they are valid or not."""
    return _without_mutable(spec, "")


def _without_mutable(value: Any, path: str, *, prune: bool = False) -> Any:
    """Return a value without mutable fields; to ``prune`` is to leave out mappings that had nothing else in them."""
    if path == ARGUMENTS:
        return _drop_mutable_arguments(value)
    if not isinstance(value, Mapping):
        return value
    result = dict[str, Any]()
    for key, below in value.items():
        field = f"{path}.{key}" if path else key
        if field in MUTABLE or field in GROWING:
            continue
        rest = _without_mutable(below, field, prune=prune)
        if not (prune and below and rest in ({}, [])):
            result[key] = rest
    return result


def _drop_mutable_arguments(arguments: Sequence[str]) -> list[str]:
    """Return arguments without the mutable ones and their values, written ``--name=value`` or ``--name value``."""
    result, skipped = list[str](), False
    for argument in arguments:
        if argument.startswith("-"):
            skipped = argument.partition("=")[0] in MUTABLE_ARGUMENTS
        if not skipped:
            result.append(argument)
    return result


def _find_shrunk(old: Any, new: Any) -> Iterable[Change]:
    """Yield the numbers that may only grow, and have shrunk."""
    for path in GROWING:
        before, now = old, new
        for part in path.split("."):
            before, now = before[part], now[part]
        if now < before:
            yield Change(f"spec.{path}", before, now)


def _find_changes(old: Any, new: Any, path: str) -> Iterable[Change]:
    """Yield the fields below a path in which two documents differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from _find_changes(old.get(key), new.get(key), f"{path}.{key}")
    elif old != new:
        yield Change(path, old, new)
