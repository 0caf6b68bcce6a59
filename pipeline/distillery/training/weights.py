"""Weights on disk: loading a base model, writing adapters and merged models. Safetensors only, no code from files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distillery.core.artifacts import digest_of_file
from distillery.core.artifacts.adapter_config import adapter_config
from distillery.core.artifacts.safetensors import digest_of_weights

# Files of a base model that its merged descendants need next to the weights.
_COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "generation_config.json",
)


ADAPTER_FILE = "adapter_model.safetensors"
"""The file of an adapter's folder that holds its tensors."""


class NoGPU(Exception):
    """A request for a feature that needs a GPU."""


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 on a GPU; float32 on a CPU, where bfloat16 is slower and less exact."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load_base(folder: Path, device: torch.device) -> Any:
    """Load the base model."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=choose_dtype(device), use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    return model.to(device)


def load_quantized(folder: Path) -> Any:
    """Load the base model in 4 bits (nf4, double quantization), computing in bfloat16. Raises :class:`NoGPU`."""
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise NoGPU(
            "spec.training.quantization: nf4 needs a GPU that torch can use, and there is none here; write none"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        quantization_config=config,
        device_map={"": 0},
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    )
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def collect_adapter_state(model: Any) -> dict[str, Tensor]:
    """Return the adapter's tensors by their names in the PEFT model."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items() if "lora_" in name}


def load_adapter(model: Any, folder: Path) -> None:
    """Give a PEFT model the weights of an adapter of the same shape.

    Raises:
        ValueError: the adapter has another shape, or tensors are missing.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = load_file(folder / ADAPTER_FILE)
    own = get_peft_model_state_dict(model)
    if differing := sorted(
        name
        for name in own.keys() | state.keys()
        if name not in own or name not in state or own[name].shape != state[name].shape
    ):
        raise ValueError(
            f"the adapter in {folder} has another shape than spec.training.lora asks for: {len(differing)} tensors "
            f"differ, such as {differing[0]}"
        )
    set_peft_model_state_dict(model, state)


def write_adapter(model: Any, folder: Path, *, base_name: str) -> str:
    """Write an adapter as PEFT and vLLM load it, and return its digest."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(model).items())
    }
    save_file(state, folder / ADAPTER_FILE, metadata={"format": "pt"})
    full = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base_name}
    config = adapter_config({**full, "target_modules": sorted(full["target_modules"])})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return digest_of_weights(folder / ADAPTER_FILE)


def write_student(model: Any, draft: Path, *, base: Path, quantized: bool) -> None:
    """Write ``draft/merged``: base and adapter as one model. Consumes ``model``.

    Over a quantised base the adapter, from ``draft/adapter``, is merged into the unquantised weights.
    """
    if quantized:
        from peft import PeftModel

        model = PeftModel.from_pretrained(load_base(base, torch.device("cpu")), draft / "adapter")
    folder = draft / "merged"
    model.merge_and_unload().save_pretrained(folder)
    copy_companions(base, folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes 0600, which a server under another user can't read


def copy_companions(base: Path, folder: Path) -> None:
    """Copy the files of a model that a server reads besides its weights and their configuration."""
    for name in _COMPANIONS:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def compute_model_digest(folder: Path) -> str:
    """Return the SHA-256 over the files of a model folder that decide what it computes, with tokenizer and template."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".jinja", ".txt", ".model"):
            digest.update(f"{path.name} {digest_of_file(path)}\n".encode())
    return digest.hexdigest()
