"""Adapters as vLLM gets them: taken from the store, checked, and rebuilt in a folder of the pod's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from distillery.core.artifacts import ArtifactError, Store
from distillery.core.artifacts.adapters import adapter_config
from distillery.core.artifacts.safetensors import digest_of_weights
from distillery_gateway.routing.document import Adapter

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"


def provide(adapter: Adapter, store: Store, folder: Path) -> Path:
    """Return a folder that vLLM may load the adapter from.

    Only weights as safetensors with the digest that was asked for, and a configuration rebuilt from what one may say:
    nothing else that lies in the store gets here.

    Raises:
        ArtifactError: the adapter is not there, or not what it should be.
    """
    place = folder / adapter.name
    weights = place / _WEIGHTS
    if (place / _CONFIG).is_file() and digest_of_weights(weights) == adapter.digest:
        return place
    source = store.open(adapter.artifact, student=adapter.digest)[0] / "adapter"
    found = digest_of_weights(source / _WEIGHTS)
    if found != adapter.digest:
        raise ArtifactError(
            f"adapter {adapter.name}: its weights have the digest {found[:12]}, not {adapter.digest[:12]}"
        )
    try:
        config = adapter_config(json.loads((source / _CONFIG).read_text(encoding="utf-8")))
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        shutil.copyfile(source / _WEIGHTS, weights)
        if digest_of_weights(weights) != adapter.digest:
            raise ArtifactError(f"adapter {adapter.name}: its weights changed while they were copied")
        (place / _CONFIG).write_text(json.dumps(config), encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ArtifactError(f"adapter {adapter.name}: {error}") from error
    return place


def forget(name: str, folder: Path) -> None:
    """Remove an adapter's folder."""
    shutil.rmtree(folder / name, ignore_errors=True)
