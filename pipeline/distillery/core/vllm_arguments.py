"""The arguments of a vLLM server: the same on this machine and in a pod."""

from __future__ import annotations

import json
from dataclasses import dataclass

from distillery.core.model_files import CHAT_TEMPLATE_ARGUMENTS

# The ranks that vLLM allows as the largest.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that a server is to serve.

    Attributes:
        base: the base model: a folder or a repository.
        name: under which clients ask for it, and under which it answers.
        revision: the commit of a repository.
        merged: folder with a student's merged weights, of the base's architecture.
        adapter: folder with a student's adapter; not together with ``merged``.
        adapter_rank: rank of the adapters that the server must be able to hold.
        aliases: further names of a model without adapters.
    """

    base: str
    name: str
    revision: str | None = None
    merged: str | None = None
    adapter: str | None = None
    adapter_rank: int = 0
    aliases: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        """The weights that the process itself holds."""
        return self.merged or self.base


def server_arguments(model: ServedModel, *, port: int, gpu: bool, load_adapter: bool) -> list[str]:
    """Return the arguments of ``vllm.entrypoints.openai.api_server``, which listens on loopback.

    Args:
        model: what it starts with.
        port: where it listens.
        gpu: whether it has one.
        load_adapter: load the model's adapter at the start. Without, adapters are loaded by request.
    """
    arguments = ["--model", model.weights]
    if model.revision and not model.merged:
        arguments += ["--revision", model.revision]
    # an adapter brings its own name; the weights below it are then called by their role
    called = ["base"] if model.adapter_rank else [model.name, *model.aliases]
    arguments += ["--served-model-name", *called]
    arguments += ["--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    arguments += ["--default-chat-template-kwargs", json.dumps(CHAT_TEMPLATE_ARGUMENTS)]
    if model.adapter_rank:
        rank = next(allowed for allowed in _RANKS if allowed >= model.adapter_rank)
        arguments += ["--enable-lora", "--max-lora-rank", str(rank)]
    if model.adapter and load_adapter:
        arguments += ["--lora-modules", f"{model.name}={model.adapter}"]
    if not gpu:
        arguments += ["--enforce-eager"]  # compiling takes longer than it saves there
    return arguments


def server_environment(*, gpu: bool) -> dict[str, str]:
    """Return the environment variables that belong to the arguments."""
    common = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    return common if gpu else {**common, "VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1"}  # GiB
