"""The servers of a run's models: who plays a model, the weights that a vLLM holds, and its arguments.

Pure, and the same on this machine and on Kubernetes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from distillery.core.api import Spec
from distillery.core.api.spec.models import Endpoint
from distillery.core.contracts.stage_config import Server
from distillery.core.model_files import CHAT_TEMPLATE_ARGUMENTS
from distillery.core.planner import Model

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM allows as the largest."""


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


def endpoint_of(player: Model, spec: Spec) -> Endpoint | None:
    """Return the endpoint of somebody else's server that plays a model; None if a vLLM of the run does."""
    if player.kind == "teacher":
        assert spec.models.teacher is not None
        return spec.models.teacher.endpoint
    return spec.models.student.endpoint if player.kind == "base" else None


def external_server(player: Model, spec: Spec) -> Server | None:
    """Return somebody else's server that plays a model; None if a vLLM of the run does."""
    if endpoint := endpoint_of(player, spec):
        role = "teacher" if player.kind == "teacher" else "student"
        return Server.of(endpoint, field=f"spec.models.{role}.endpoint")
    return None


def serves_merged(spec: Spec, *, gpu: bool) -> bool:
    """Return whether students are served as merged weights: if asked for, or by default if servers have no GPU.

    On a CPU vLLM answers requests to adapters 2.5 to 5 times slower than requests to merged weights.
    """
    weights = spec.promotion.weights
    return weights == "merged" or (weights == "auto" and not gpu)


def student_name(digest: str) -> str:
    """Return vLLM's name for a student, by the digest of its adapter; without one, its base model's."""
    return f"student-{digest[:12]}" if digest else "base"


def player_name(player: Model | None, spec: Spec, digest: str) -> str:
    """Return a name for the weights that play; empty without a player, and for weights behind an endpoint.

    Args:
        player: who plays.
        spec: the run's.
        digest: of the student's adapter; empty for other players.
    """
    if player is None or endpoint_of(player, spec):
        return ""
    return digest or player.kind


def served_model(model: Model, spec: Spec, *, gpu: bool, artifacts: str, digest: str = "") -> ServedModel:
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
    rank = 0 if serves_merged(spec, gpu=gpu) else spec.training.lora.rank
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
