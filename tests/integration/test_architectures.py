"""Every architecture of docs/architectures.md, tiny and random: it trains right, or it is refused with the reason."""

from __future__ import annotations

import copy
import random
import threading
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from distillery.api.training import Training
from distillery.training.lora import LoraTrainer
from distillery.training.packing import pack
from distillery.training.samples import Sample
from distillery.training.selftest import choose_reading, reading
from tests.integration.architectures import ARCHITECTURES, VOCABULARY, tiny_model

NAMES = [architecture.name for architecture in ARCHITECTURES]
# How rows are read. Recurrent and convolution layers, and gpt-oss's masks, know nothing of positions.
OURS = {"Qwen2.5", "Qwen3", "Qwen3-MoE", "Llama 3", "Phi-4"}
MASKS = {"Mistral with a sliding window", "Gemma 3", "Phi-3 mini with a sliding window"}


def trainer(folder: Path, **fields: object) -> LoraTrainer:
    settings = Training.model_validate({"lora": {"rank": 2, "alpha": 4, "dropout": 0.0}, **fields})
    return LoraTrainer(settings, base=folder, checkpoints=folder / "c", report=lambda *_: None, stop=threading.Event())


def samples() -> list[Sample]:
    rng = random.Random(3)
    made = []
    for number, length in enumerate((21, 40, 13)):
        ids = tuple(rng.randrange(VOCABULARY) for _ in range(length))
        made.append(Sample(number, ids, tuple(range(1, length)), ""))
    return made


@torch.no_grad()
def own_losses(model: torch.nn.Module, sample: Sample) -> torch.Tensor:
    """The losses of a sample as the model computes them when nothing of ours is involved."""
    ids = torch.tensor(sample.ids)
    return functional.cross_entropy(model(ids[None]).logits[0][:-1], ids[1:], reduction="none")


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_the_losses_of_their_samples_alone(name: str, tmp_path: Path):
    torch.set_num_threads(1)
    model = copy.deepcopy(tiny_model(name))
    made = trainer(tmp_path)
    chosen = choose_reading(model, samples(), lambda row: made._token_losses(model, row), torch.float32)
    assert (chosen.own_attention, chosen.packed) == (name not in OURS, name in OURS | MASKS)
    ordered = sorted(samples(), key=lambda sample: -len(sample.ids))
    with reading(model, chosen):
        rows = pack(samples(), 256 if chosen.packed else 0)
        losses = torch.cat([made._token_losses(model, row) for row in rows])
    alone = torch.cat([own_losses(tiny_model(name), sample) for sample in ordered])
    assert torch.allclose(losses, alone, rtol=0, atol=1e-4)
