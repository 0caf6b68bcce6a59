"""Attention over a packed row: each sample attends to itself alone, and nothing is computed across samples.

A mask would do too: transformers makes one of positions that begin again at 0. But a mask of a row is as large as the
row squared, keeps the quick kernels away, and most of its results are thrown away.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

_NAME = "distillery_packed"


@contextmanager
def attend_within_samples(model: PreTrainedModel) -> Generator[bool]:
    """Let a model attend within samples only while entered; yields whether it does.

    No change where a model needs more than causal attention: masks are made of positions then.
    """
    config = model.config.get_text_config()
    # some models with a window say so without layer types: Mistral 7B v0.1, Phi-3 mini, StarCoder2
    kinds = getattr(config, "layer_types", None) or ["sliding" if _get_window(config) else "full_attention"]
    if set(kinds) != {"full_attention"} or getattr(config, "attn_logit_softcapping", None):
        yield False
        return
    before = config._attn_implementation or "eager"
    AttentionInterface.register(_NAME, _attend)
    model.set_attn_implementation(_NAME)
    try:
        yield True
    finally:
        model.set_attn_implementation(before)


def _get_window(config: Any) -> int | None:
    """Return the tokens of the sliding window; None without one."""
    return getattr(config, "sliding_window", None)


def build_row_arguments(model: PreTrainedModel, positions: Sequence[int]) -> dict[str, Any]:
    """Return the arguments that a model needs for a row besides ids and positions; empty if it makes a mask of the
    positions.

    ``positions`` begin at 0 in each sample.
    """
    if model.config.get_text_config()._attn_implementation != _NAME:
        return {}
    return {"borders": [*(i for i, position in enumerate(positions) if position == 0), len(positions)]}


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """Call ``sdpa_attention_forward``, sample by sample; transformers sets the form of this function.

    Args:
        module: the attention layer.
        query: shape (1, heads, tokens, size).
        key: shape (1, key heads, tokens, size).
        value: as ``key``.
        attention_mask: None: masks are not made for this attention.
        arguments: dropout, scaling, and ``borders``: where the samples begin, and where the last one ends.

    Returns:
        Shape (1, tokens, heads, size).
    """
    assert attention_mask is None
    borders: Sequence[int] = arguments.pop("borders")
    parts = [
        sdpa_attention_forward(module, query[:, :, i:j], key[:, :, i:j], value[:, :, i:j], None, **arguments)[0]
        for i, j in pairwise(borders)
    ]
    return torch.cat(parts, dim=1), None
