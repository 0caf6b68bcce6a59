"""The weights that a server holds for a model of a run: pure, the same on this machine and on Kubernetes."""

from __future__ import annotations

import ctypes
import functools
import os

from distillery.core.api import Spec
from distillery.core.planner import Model
from distillery.core.vllm_arguments import ServedModel


@functools.cache
def has_gpu() -> bool:
    """Return whether NVIDIA's driver has a GPU for this process; asked without loading torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    try:
        driver = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    number = ctypes.c_uint()
    return driver.nvmlInit_v2() == 0 and driver.nvmlDeviceGetCount_v2(ctypes.byref(number)) == 0 and number.value > 0


def merges(spec: Spec, *, gpu: bool) -> bool:
    """Return whether students are served as merged weights: if asked for, or by default if servers have no GPU.

    On a CPU vLLM answers requests to adapters 2.5 to 5 times slower than requests to merged weights.
    """
    weights = spec.promotion.weights
    return weights == "merged" or (weights == "auto" and not gpu)


def student_name(digest: str) -> str:
    """Return vLLM's name for a student, by the digest of its adapter; without one, its base model's."""
    return f"student-{digest[:12]}" if digest else "base"


def served(model: Model, spec: Spec, *, gpu: bool, artifacts: str, digest: str = "") -> ServedModel:
    """Return the weights and names that a server holds for a model.

    Args:
        model: who plays.
        spec: the run's.
        gpu: whether the server has one.
        artifacts: folder of the run's artifacts as the server sees it.
        digest: of the student's adapter, which its name is made of; for a student only.
    """
    if model.kind == "teacher":
        teacher = spec.models.teacher
        assert teacher is not None
        assert teacher.model is not None
        return ServedModel(teacher.model, "teacher", revision=teacher.revision)
    student = spec.models.student
    rank = 0 if merges(spec, gpu=gpu) else spec.training.lora.rank
    base = ServedModel(student.model, "base", revision=student.revision, adapter_rank=rank)
    if model.trained_by is None:
        return base
    folder = f"{artifacts}/{model.trained_by}"
    if not rank:
        # the same name as the base: a process whose weights are exchanged keeps its name
        return ServedModel(student.model, "base", merged=f"{folder}/merged")
    return ServedModel(
        student.model,
        student_name(digest),
        revision=student.revision,
        adapter=f"{folder}/adapter",
        adapter_rank=rank,
    )
