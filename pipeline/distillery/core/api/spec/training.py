"""The training of a student, and the episodes that it is trained on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillery.core.api.base import Fraction, PluginName, SpecModel, Text


class Lora(SpecModel):
    """The adapter. Defaults: the paper's for ALFWorld (arXiv 2510.01375, table 3)."""

    rank: Annotated[int, Field(ge=1, le=512)] = 64
    """rank is the rank of the update of each matrix."""

    alpha: Annotated[int, Field(ge=1, le=2048)] = 128
    """alpha scales the update, by alpha / rank."""

    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """dropout is the dropout probability of the adapter's inputs."""

    target_modules: Annotated[tuple[Text, ...], Field(min_length=1, max_length=32)] | None = None
    """targetModules names the projections that get an update, by the last part of their names. They must be all that
    the model's layers have. Default: all of them, as found in the model."""


class DataFilter(SpecModel):
    """The filter of the episodes that students are trained on."""

    min_score: Fraction = 1.0
    """minScore is the lowest score of an episode that is trained on. 1 keeps successes only."""

    max_invalid_actions: Annotated[int, Field(ge=0, le=1000)] = 1
    """maxInvalidActions is the largest number of rejected actions in an episode that is trained on."""

    max_per_task: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """maxPerTask is the largest number of episodes of one task, over all rounds, that a student is trained on. The
    latest are kept. Default: no limit."""


class Training(SpecModel):
    """One LoRA on kept episodes."""

    trainer: PluginName = "lora"
    """trainer is ``lora``, or a name registered under ``distillery.trainers``."""

    start: Literal["base", "previous"] = "base"
    """start is ``base`` to train each student from the base model. ``previous`` continues from the adapter that its
    round started with. A control continues from its own."""

    replay_share: Fraction = 1.0
    """replayShare is the share of the episodes kept in earlier rounds that a student is trained on again. They are
    drawn with ``seed``. 1 trains on all rounds; 0 with ``start: previous`` trains one round after the other."""

    lora: Lora = Lora()
    """lora is the shape of the adapter."""

    quantization: Literal["none", "nf4"] = "none"
    """quantization is ``none``, or ``nf4`` to hold the base model in 4 bits (QLoRA). ``nf4`` needs a GPU and the extra
    ``[gpu]``."""

    learning_rate: Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)] = 2e-4
    """learningRate is the peak of a linear schedule that decays to zero."""

    warmup_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """warmupRatio is the share of the steps over which the learning rate rises."""

    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """weightDecay is the weight decay of AdamW."""

    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """labelSmoothing is the share of each target's probability that is spread over the vocabulary."""

    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    """epochs is the number of passes over the episodes."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 8
    """batchSize is the number of episodes per optimizer step."""

    packed_sequence_length: Annotated[int, Field(ge=64, le=262_144)] = 8192
    """packedSequenceLength is the length, in tokens, of the sequences into which the episodes of a step are packed. A
    forward pass takes one sequence, so it bounds memory. It changes no gradient: a longer episode gets a longer
    sequence."""

    max_sample_tokens: Annotated[int, Field(ge=64, le=1_048_576)] | None = None
    """maxSampleTokens is the longest training sample, in tokens. An episode with a longer sample is dropped and
    counted, never cut. Default: the context of the student's model."""

    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 42
    """seed is the random seed of initialization, order and dropout."""

    checkpoint_interval_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    """checkpointIntervalSeconds is the time between two checkpoints, which is the work that a killed trainer may
    lose."""
