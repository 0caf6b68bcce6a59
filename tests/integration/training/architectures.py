"""Tiny random models of the architectures in docs/architectures.md, with two layers each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.unit import templates

VOCABULARY = 128

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # small weights would hide what layers do to each other
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_HYBRID = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_SLIDING = {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
_MAMBA = {
    "layer_types": ["mamba", "attention"],
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "mamba_expand": 2,
    "shared_intermediate_size": 32,
}


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
        name: as the table calls it.
        kind: the model type in its configuration.
        template: its chat template.
        fields: what its configuration says besides sizes.
        eos: the tokenizer's end of sequence.
    """

    name: str
    kind: str
    template: str
    fields: dict[str, Any] = field(default_factory=dict)
    eos: str = "<|im_end|>"

    def config(self) -> Any:
        """Return its configuration."""
        return AutoConfig.for_model(self.kind, **{**_COMMON, **self.fields})


ARCHITECTURES = [
    Architecture("Qwen2.5", "qwen2", templates.CHATML),
    Architecture("Qwen3 Instruct 2507", "qwen3", templates.CHATML, {"head_dim": 8}),
    Architecture("Qwen3 (thinking)", "qwen3", templates.QWEN3, {"head_dim": 8}),
    Architecture("Qwen3-MoE", "qwen3_moe", templates.CHATML, {"head_dim": 8, **_EXPERTS}),
    Architecture(
        "Qwen3-Next", "qwen3_next", templates.CHATML, {**_HYBRID, **_EXPERTS, "shared_expert_intermediate_size": 16}
    ),
    Architecture("Qwen3.5", "qwen3_5_text", templates.QWEN3_5, _HYBRID),
    Architecture("Qwen3.5 with a template that appends", "qwen3_5_text", templates.CHATML, _HYBRID),
    Architecture("Llama 3", "llama", templates.LLAMA3, eos="<|end_of_text|>"),
    Architecture("Mistral, sliding window", "mistral", templates.MISTRAL, {"sliding_window": 4}, eos="</s>"),
    Architecture(
        "Gemma 3, text", "gemma3_text", templates.GEMMA3, {**_SLIDING, "query_pre_attn_scalar": 8}, eos="<eos>"
    ),
    Architecture("Phi-3 mini, sliding window", "phi3", templates.PHI3, {"sliding_window": 4}, eos="<|endoftext|>"),
    Architecture("Phi-4", "phi3", templates.PHI4),
    Architecture(
        "LFM2", "lfm2", templates.LFM2, {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
    ),
    Architecture(
        "Granite 4 hybrid, dense",
        "granitemoehybrid",
        templates.GRANITE4,
        {**_MAMBA, "num_local_experts": 0},
        eos="<|end_of_text|>",
    ),
    Architecture(
        "Granite 4 hybrid, experts",
        "granitemoehybrid",
        templates.GRANITE4,
        {**_MAMBA, "num_local_experts": 4},
        eos="<|end_of_text|>",
    ),
    Architecture(
        "gpt-oss",
        "gpt_oss",
        templates.GPT_OSS,
        {**_SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2},
        eos="<|return|>",
    ),
]


@cache
def tiny_model(architecture: str) -> Any:
    """Return the architecture with random weights, the same every time. Not to be changed: it is shared."""
    (chosen,) = (one for one in ARCHITECTURES if one.name == architecture)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(chosen.config()).eval()
