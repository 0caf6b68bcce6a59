"""Batches of episodes, and rows without padding.

An optimizer step learns from ``batch_size`` samples, whatever their lengths. For the forward passes they are laid end
to end into rows of about ``packed_sequence_length`` tokens; positions start at 0 in each sample, by which the attention
separates them, so nothing leaks from one into another, and no token is spent on padding.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from distillery.training.samples import Sample


@dataclass(frozen=True, slots=True)
class Row:
    """Samples laid end to end.

    Attributes:
        ids: token ids.
        positions: position of each token within its sample.
        predictors: places in the row whose next token is learned.
        labels: those next tokens; as long as ``predictors``.
    """

    ids: list[int]
    positions: list[int]
    predictors: list[int]
    labels: list[int]


def plan_batches(count: int, *, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Return the samples of each optimizer step: every epoch has its own shuffle; the last batch may be smaller."""
    batches = []
    for epoch in range(epochs):
        indices = list(range(count))
        random.Random(f"{seed}/{epoch}").shuffle(indices)  # noqa: S311 - no secret
        batches += [indices[i : i + batch_size] for i in range(0, count, batch_size)]
    return batches


def pack_rows(samples: Sequence[Sample], packed_sequence_length: int) -> list[Row]:
    """Lay samples into rows of at most ``packed_sequence_length`` tokens, first-fit decreasing.

    No sample is cut or dropped: one that is longer than ``packed_sequence_length`` gets a row of its own.
    """
    bins: list[list[Sample]] = []
    sizes: list[int] = []
    for sample in sorted(samples, key=lambda s: (-len(s.ids), s.episode_id)):
        length = len(sample.ids)
        place = next((i for i, size in enumerate(sizes) if size + length <= packed_sequence_length), None)
        if place is None:
            bins.append([sample])
            sizes.append(length)
        else:
            bins[place].append(sample)
            sizes[place] += length
    return [_build_row(group) for group in bins]


def _build_row(samples: Sequence[Sample]) -> Row:
    row = Row([], [], [], [])
    for sample in samples:
        start = len(row.ids)
        row.ids.extend(sample.ids)
        row.positions.extend(range(len(sample.ids)))
        row.predictors.extend(start + target - 1 for target in sample.targets)
        row.labels.extend(sample.ids[target] for target in sample.targets)
    return row
