"""Adapters as vLLM gets them: from the store, checked, and rebuilt in a folder of the pod's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from distillery.core.artifacts import ArtifactError, Store
from distillery.core.artifacts.adapter_config import adapter_config
from distillery.core.artifacts.safetensors import digest_of_weights
from distillery.core.contracts.routing import Adapter

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"


def provide(adapter: Adapter, store: Store, folder: Path) -> Path:
    """Return a folder that vLLM may load the adapter from.

    The folder holds weights as safetensors with the digest of the document, and a configuration rebuilt from its known
    fields. No other file of the store gets here.

    Raises:
        ArtifactError: the adapter is missing, or has another digest.
    """
    target = folder / adapter.name
    weights = target / _WEIGHTS
    if (target / _CONFIG).is_file() and digest_of_weights(weights) == adapter.digest:
        return target
    source = store.open(adapter.artifact, student=adapter.digest)[0] / "adapter"
    digest = digest_of_weights(source / _WEIGHTS)
    if digest != adapter.digest:
        raise ArtifactError(
            f"adapter {adapter.name}: its weights have the digest {digest[:12]}, not {adapter.digest[:12]}"
        )
    try:
        config = adapter_config(json.loads((source / _CONFIG).read_text(encoding="utf-8")))
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        shutil.copyfile(source / _WEIGHTS, weights)
        if digest_of_weights(weights) != adapter.digest:
            raise ArtifactError(f"adapter {adapter.name}: its weights changed while they were copied")
        (target / _CONFIG).write_text(json.dumps(config), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"adapter {adapter.name}: {error}") from error
    return target


def forget(name: str, folder: Path) -> None:
    """Remove an adapter's folder."""
    shutil.rmtree(folder / name, ignore_errors=True)
