"""How a student is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillery.api.base import Part, PluginName, Text


class Lora(Part):
    """The adapter. Defaults: the paper's for ALFWorld (arXiv 2510.01375, table 3)."""

    rank: Annotated[int, Field(ge=1, le=512)] = 64
    """Rank of the update of each matrix."""

    alpha: Annotated[int, Field(ge=1, le=2048)] = 128
    """The update is scaled by alpha / rank."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Of the adapter's inputs."""

    target_modules: Annotated[tuple[Text, ...], Field(min_length=1, max_length=32)] | None = None
    """targetModules names the projections that get an update, by the last part of their names. They have to be all
    that the model's layers have. Default: all of them, as found in the model."""


class Training(Part):
    """One LoRA from the base model on the episodes kept in all rounds so far."""

    trainer: PluginName = "lora"
    """``lora``, or a name registered under ``distillery.trainers``."""

    lora: Lora = Lora()
    """The adapter."""

    quantization: Literal["none", "nf4"] = "none"
    """``nf4`` holds the base model in 4 bits (QLoRA). Needs a GPU and the extra ``[gpu]``."""

    learning_rate: Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)] = 2e-4
    """Peak of a linear schedule that falls to zero."""

    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """The share of the steps over which the learning rate rises."""

    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """AdamW's."""

    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The share of each target's probability spread over the vocabulary."""

    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    """Passes over the episodes."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 8
    """batchSize is the number of episodes per optimizer step."""

    row_tokens: Annotated[int, Field(ge=64, le=262_144)] = 8192
    """rowTokens is the length of the rows into which the episodes of a step are packed, one row a forward pass. It
    bounds memory. It changes neither the gradient nor what is learned: an episode that is longer gets a longer row."""

    max_sample_tokens: Annotated[int, Field(ge=64, le=1_048_576)] | None = None
    """maxSampleTokens is the longest training sample, in tokens. An episode with a longer sample is dropped and
    counted, never cut. Default: the context of the student's model."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 42
    """seed is the seed of initialization, order and dropout."""

    checkpoint_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    """How much work a killed trainer may lose."""
