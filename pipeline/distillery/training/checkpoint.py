"""Checkpoints of a training: everything that the next step depends on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

_FILE = "state.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint in ``folder`` by ``state``, in one rename."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{_FILE}.draft"
    with draft.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / _FILE)


def load(folder: Path, *, fingerprint: str) -> dict[str, Any] | None:
    """Load the checkpoint of this very training; None if there is none.

    ``fingerprint`` identifies base model, data and settings. Tensors and plain values only are read, never code.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state if state["fingerprint"] == fingerprint else None
