"""An adapter's configuration, rebuilt from what it may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distillery.core.artifacts.base import ArtifactError

# Others can name modules to import, or files to read (peft #3085).
_KEYS: dict[str, type | tuple[type, ...]] = {
    "peft_type": str,
    "task_type": str,
    "r": int,
    "lora_alpha": (int, float),
    "lora_dropout": (int, float),
    "target_modules": list,
    "bias": str,
    "base_model_name_or_path": str,
}


def adapter_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with the known keys and no others.

    Raises:
        ArtifactError: one is missing or of another kind, or it is no LoRA without biases.
    """
    for key, kind in _KEYS.items():
        if not isinstance(given.get(key), kind):
            raise ArtifactError(f"the adapter's configuration has no usable {key}: {given.get(key)!r}")
    if given["peft_type"] != "LORA" or given["bias"] != "none":
        raise ArtifactError("the adapter is no LoRA without biases")
    if not all(isinstance(name, str) for name in given["target_modules"]):
        raise ArtifactError("the adapter's target_modules are no list of names")
    return {key: given[key] for key in _KEYS}
