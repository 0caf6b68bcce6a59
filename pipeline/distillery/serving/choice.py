"""How a student is served: as merged weights, or as an adapter beside its base."""

from __future__ import annotations

import shutil

from distillery.api import Spec


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU with a driver; asked without loading torch."""
    return shutil.which("nvidia-smi") is not None


def merges(spec: Spec) -> bool:
    """Whether students are served as merged weights: asked for, or by default on a CPU.

    On a CPU vLLM answers requests to adapters 2.5 to 5 times slower than requests to merged weights.
    """
    weights = spec.promotion.weights
    return weights == "merged" or (weights == "auto" and not has_gpu())
