"""The student's architecture, checked before anything is spent, and the layers that an adapter has to cover.

A projection is a linear layer of the decoder: of attention, of linear attention, of a recurrent or convolution block,
of a feed-forward block. The embedding, the head and routers are none. An adapter covers all projections: one that
misses a kind of layer learns less without a sign of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillery.core.api.run import Spec
from distillery.core.api.spec.training import Lora

if TYPE_CHECKING:
    from peft import LoraConfig

_GATES = frozenset({"gate", "router", "shared_expert_gate"})  # they choose among experts
_FIELD = "spec.training.lora.targetModules"
_MODEL = "spec.models.student.model"


class ArchitectureError(Exception):
    """An architecture that can't be trained; the message names the field, the reason and a fix."""


def read_context_length(folder: Path) -> int:
    """Return the context length of a model in tokens; as good as infinite for a model without positions."""
    return getattr(_read_config(folder).get_text_config(), "max_position_embeddings", None) or sys.maxsize


def check_student(folder: Path, spec: Spec) -> None:
    """Check that the student's chat template and layers can be trained. Loads no weights.

    Raises:
        ArchitectureError: they can't.
    """
    from transformers import AutoTokenizer

    from distillery.training.samples import TemplateError, check_template

    model = spec.models.student.model
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    try:
        check_template(tokenizer)
    except TemplateError as error:
        raise ArchitectureError(f"{_MODEL}: {model}: {error}") from error
    if spec.training.trainer == "lora":  # another trainer has rules of its own
        check_adapter(_read_config(folder), spec.training.lora, model=model)


def check_adapter(config: Any, lora: Lora, *, model: str) -> None:
    """Check that the adapter covers every projection of an architecture.

    Args:
        config: the model's configuration.
        lora: the adapter's settings.
        model: the model's name, for messages.

    Raises:
        ArchitectureError: names that no projection has, projections without an update, or layers that no adapter
            covers.
    """
    import torch
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty_model: Any = AutoModelForCausalLM.from_config(config)
    if others := list(_find_uncovered_parameters(empty_model)):
        raise ArchitectureError(
            f"{_MODEL}: {model}: its expert layers hold their weights in other ways than as linear layers "
            f"({', '.join(others)}), and an adapter would leave them out; choose a model without experts"
        )
    projections = dict(_find_projections(empty_model))
    names = find_target_modules(empty_model)
    if chosen := lora.target_modules:
        strangers = [name for name in chosen if not any(_matches(path, name) for path in projections)]
        if strangers:
            raise ArchitectureError(f"{_FIELD}: {model} has no {', '.join(strangers)}; {_describe_fix(names)}")
    try:
        inject_adapter_in_model(build_peft_config(lora, empty_model), empty_model)
    except ValueError as error:
        raise ArchitectureError(f"{_MODEL}: {model}: PEFT can't adapt it: {error}") from error
    covered = {path for path, module in empty_model.named_modules() if isinstance(module, BaseTunerLayer)}
    if missing := {path.rpartition(".")[2] for path in projections if path not in covered}:
        raise ArchitectureError(f"{_FIELD}: {', '.join(sorted(missing))} would get no update; {_describe_fix(names)}")


def find_target_modules(model: Any) -> list[str]:
    """Return the names of all projections: last parts, or whole paths if a module outside the decoder shares them."""
    import torch

    paths = {path for path, _ in _find_projections(model)}
    outside = {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and path not in paths
    }
    return sorted({path if (name := path.rpartition(".")[2]) in outside else name for path in paths})


def build_peft_config(lora: Lora, model: Any) -> LoraConfig:
    """Return the adapter of a model in PEFT's words."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules or find_target_modules(model)),
        bias="none",
        task_type="CAUSAL_LM",
    )


def check_gradients(model: Any) -> None:
    """Check after a backward pass that it reached every part of the adapter.

    Some fused kernels read a projection's weight and pass its adapter by (Mamba's read that of out_proj).

    Raises:
        ArchitectureError: it did not.
    """
    idle = {
        name.partition(".lora_")[0].rpartition(".")[2]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    }
    if idle:
        raise ArchitectureError(
            f"{_MODEL}: the updates of {', '.join(sorted(idle))} take no part in what the model computes here; "
            "remove packages with fused kernels for it (mamba-ssm, causal-conv1d), or choose another model"
        )


def _read_config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _find_projections(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the paths and modules of all projections."""
    import torch

    inside = set(model.get_decoder().modules())
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module in inside and path.rpartition(".")[2] not in _GATES:
            yield path, module


def _find_uncovered_parameters(model: Any) -> Iterator[str]:
    """Yield the names of matrices of the decoder that stand in no linear layer, as fused experts do."""
    import torch

    covered_types = torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d
    labels = set[str]()
    for path, module in model.get_decoder().named_modules():
        if isinstance(module, covered_types) or path.rpartition(".")[2] in _GATES:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            label = f"{path.rpartition('.')[2]}.{name}"
            # A_log is the decay of the first Mamba, not a projection
            if parameter.ndim >= 2 and name != "A_log" and not name.endswith("_bias") and label not in labels:
                labels.add(label)
                yield label


def _matches(path: str, name: str) -> bool:
    """Return whether a name is a path, or its last parts."""
    return path == name or path.endswith(f".{name}")


def _describe_fix(names: Sequence[str]) -> str:
    """Return how to repair the field."""
    return f"leave the field out, or write {', '.join(names)}"
