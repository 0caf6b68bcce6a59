"""The self-test of packing: how this very model reads rows, tried before the first step.

Two mistakes would go unnoticed and make every gradient wrong. Our attention may leave out what the model's own does (a
sliding window, sinks, a bias). And a layer may carry state from one sample of a row into the next: recurrent and
convolution layers read no mask, and some models make their masks without looking at positions. No list of architectures
is kept; the model is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distillery.training.attention import attend_within_samples
from distillery.training.packing import Row, pack_rows
from distillery.training.samples import Sample

_log = logging.getLogger(__name__)

_PROBE = 32  # tokens of each short sample

# The mean difference per token, in nats, that rounding explains. float32 sums in another order where a row has another
# shape: 1e-6 is common. bfloat16 keeps 8 bits of each number, so single tokens differ by hundredths of a nat.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}

# Another neighbor leaves shapes and kernels as they are, so that no dtype excuses a difference.
_SAME = 1e-4

Losses = Callable[[Row], Tensor]
"""The loss of each of a row's labels, under the attention that the model has now."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A way of reading rows.

    Attributes:
        own_attention: the model's own attention reads them, not ours.
        packed: several samples may share a row.
    """

    own_attention: bool
    packed: bool


def choose_reading(model: Any, samples: Sequence[Sample], losses: Losses, dtype: torch.dtype) -> Reading:
    """Find the fastest way of reading rows that gives the model's own losses; the slowest is always right.

    Args:
        model: the base model, for its attention.
        samples: what is trained on; the longest is read whole.
        losses: computes a row without gradient or dropout.
        dtype: in which the model computes.
    """
    tolerance = _TOLERANCE[dtype]
    longest = max(samples, key=lambda sample: len(sample.ids))
    (row,) = pack_rows([longest], 0)
    own = losses(row)
    with attend_within_samples(model) as ours:
        if ours and _compare(losses(row), own) <= tolerance and _keeps_apart(longest, losses, tolerance):
            return Reading(own_attention=False, packed=True)
    if ours:
        _log.warning("our attention does not agree with the model's own, which is slower and is used instead")
    packed = _keeps_apart(longest, losses, tolerance)
    if not packed:
        _log.warning(
            "samples see each other in a packed row of this model: each gets a row of its own, which is slower"
        )
    return Reading(own_attention=True, packed=packed)


@contextmanager
def apply_reading(model: Any, chosen: Reading) -> Generator[None]:
    """Let a model read rows in the chosen way while entered."""
    if chosen.own_attention:
        yield
        return
    with attend_within_samples(model):
        yield


def _keeps_apart(source: Sample, losses: Losses, tolerance: float) -> bool:
    """Return whether short samples have the same losses packed and alone, and whatever stands before them."""
    first, second, third = _build_probes(source.ids)
    packed = losses(_build_row([first, second, third]))
    alone = torch.cat([losses(_build_row([probe])) for probe in (first, second, third)])
    if _compare(packed, alone) > tolerance:
        return False
    neighbor = Sample(0, first.ids[::-1], first.targets, "")
    swapped = losses(_build_row([neighbor, second, third]))
    return _compare(swapped[len(first.targets) :], packed[len(first.targets) :]) <= _SAME


def _build_probes(ids: Sequence[int]) -> list[Sample]:
    """Return three short samples, the longest first; every token but the first is a target."""
    tokens = [ids[i % len(ids)] for i in range(3 * _PROBE)]
    parts = tokens[: _PROBE + 5], tokens[_PROBE + 5 : 2 * _PROBE + 5], tokens[2 * _PROBE + 5 :]
    return [Sample(number, tuple(part), tuple(range(1, len(part))), "") for number, part in enumerate(parts)]


def _build_row(samples: Sequence[Sample]) -> Row:
    (row,) = pack_rows(samples, sum(len(sample.ids) for sample in samples))
    return row


def _compare(one: Tensor, other: Tensor) -> float:
    """Return the mean absolute difference of losses."""
    return (one - other).abs().mean().item()
