"""The files of a base model, in a folder or on the hub."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"]
UNWANTED = ["consolidated*.safetensors", "*/*"]
"""Patterns of the hub: the same weights once more, in the form of their author, and folders with other forms."""

CHAT_TEMPLATE_ARGUMENTS = {"date_string": "26 Jul 2024"}
"""The variables that chat templates get besides the messages, in training and in every server: a fixed date (the one
that Llama 3.1's template falls back to), because a student has to see in use the prompts that it was trained on."""

_HUB_SECONDS = 5.0


class ModelNotFound(Exception):
    """A model's files are missing or unusable; the message names the model and the fix."""


def resolve(model: str, revision: str | None) -> Path:
    """Return the folder with a model's files: the folder itself, or the hub's commit in the local cache.

    A commit that is not cached is downloaded. Only weights as safetensors, never pickled ones, and no code.

    Raises:
        ModelNotFound: no such folder or repository, no network, or no safetensors.
    """
    if revision is None:
        folder = Path(model)
        if not folder.is_dir():
            raise ModelNotFound(f"model {model}: there is no such folder")
    else:
        folder = _download(model, revision)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["architectures"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelNotFound(f"model {model}: {folder / 'config.json'} is no model configuration: {error}") from error
    if not any(folder.glob("*.safetensors")):
        raise ModelNotFound(f"model {model}: {folder} holds no *.safetensors; other formats are not loaded")
    return folder


def newest_commit(model: str) -> str | None:
    """Return the newest commit of a model repository, or of its local cache; None if neither has the model."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(Exception):  # its HTTP library's errors too, which no base class joins with its own
        return HfApi().model_info(model, timeout=_HUB_SECONDS).sha
    try:
        return Path(hf_hub_download(model, "config.json", local_files_only=True)).parent.name
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def _download(model: str, revision: str) -> Path:
    """Return the folder of a hub's commit, downloaded unless it is cached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(
            f"model {model}@{revision} can't be downloaded and is not in the local cache: {error}"
        ) from error
