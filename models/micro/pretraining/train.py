"""Pre-train the demonstration model and write its folder.

    cd models/micro && OMP_NUM_THREADS=1 python -m pretraining.train --out .

One thread, no data but what the package itself makes. The same seed on the same machine gives the same weights to the
bit, also when the run was interrupted: start the command again and it resumes from its last checkpoint. The schedules
follow the number of tokens seen, never the clock.
"""

import argparse
import hashlib
import json
import logging
import math
import random
import time
from collections.abc import Sequence as Sequences
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import GenerationConfig, LlamaForCausalLM

from .decisions import decisions, held_out_games, pad, report
from .demonstrations import Sequence, drill, game
from .model import new_model
from .vocabulary import BOS, ID, PAD, TOKENS, TURN_END, build_tokenizer

log = logging.getLogger("pretraining")


@dataclass(frozen=True)
class TrainingRecipe:
    """All that decides the weights."""

    seed: int = 1
    tokens: int = 10_000_000
    """Tokens seen in all, padding not counted."""
    layers: int = 6
    batch_tokens: int = 1024
    learning_rate: float = 2.5e-3
    final_learning_rate: float = 0.05
    """Share of the learning rate that is left at the end."""
    warm_up_steps: int = 100
    constant_until: float = 0.5
    """Share of the run after which the learning rate begins to fall (by a cosine)."""
    weight_decay: float = 0.05
    full_size_at: float = 0.4
    """Share of the run at which the rooms have grown to full size."""
    drills_first: float = 0.8
    drills_last: float = 0.4
    """Share of drills among the sequences, at the start and from half of the run on."""
    block_sequences: int = 400
    """Sequences made and shuffled at a time."""


class Optimizers:
    """Muon for the matrices inside the layers, AdamW for embedding and norms, under one schedule."""

    def __init__(self, model: LlamaForCausalLM, recipe: TrainingRecipe) -> None:
        """Embedding and final norm learn at a rate that fits their scale (see ``model.new_model``)."""
        scale = math.sqrt(model.config.hidden_size)
        matrices = [p for name, p in model.named_parameters() if "_proj" in name]
        norms = [p for name, p in model.named_parameters() if "layernorm" in name]
        rate, decay = recipe.learning_rate, recipe.weight_decay
        adamw = [
            {"params": [model.model.embed_tokens.weight], "lr": rate * scale, "weight_decay": decay / scale},
            {"params": [model.model.norm.weight], "lr": rate / scale, "weight_decay": 0.0},
            {"params": norms, "lr": rate, "weight_decay": 0.0},
        ]
        self._recipe = recipe
        self._all: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(adamw, betas=(0.9, 0.98), fused=True),
        )
        self._peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self._all]

    def step(self, number: int, progress: float) -> float:
        """One update at the schedule's rate; returns that rate as a share of the peak."""
        recipe = self._recipe
        falling = max(0.0, (progress - recipe.constant_until) / (1 - recipe.constant_until))
        share = min(1.0, (number + 1) / recipe.warm_up_steps)
        share *= recipe.final_learning_rate + (1 - recipe.final_learning_rate) * (1 + math.cos(math.pi * falling)) / 2
        for optimizer, peaks in zip(self._all, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = share * peak
            optimizer.step()
            optimizer.zero_grad()
        return share

    def state_dict(self) -> list[dict[str, object]]:
        """State of both."""
        return [optimizer.state_dict() for optimizer in self._all]

    def load_state_dict(self, states: list[dict[str, object]]) -> None:
        """Inverse of ``state_dict``."""
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)


def block_of_batches(recipe: TrainingRecipe, number: int, progress: float) -> list[list[Sequence]]:
    """The run's block of that number: new sequences, batched by like length, in random order."""
    size = min(1.0, progress / recipe.full_size_at)
    share = recipe.drills_last + (recipe.drills_first - recipe.drills_last) * max(0.0, 1 - 2 * progress)
    drills = round(share * recipe.block_sequences)
    names = [f"train/{recipe.seed}/{number}/{i}" for i in range(recipe.block_sequences)]
    rng = random.Random(f"batches/{recipe.seed}/{number}")  # noqa: S311
    batches: list[list[Sequence]] = []
    for group in ([drill(n, size=size) for n in names[:drills]], [game(n, size=size) for n in names[drills:]]):
        batch: list[Sequence] = []
        for sequence in sorted(group, key=lambda s: len(s.ids) + 20 * rng.random()):
            if batch and (len(batch) + 1) * len(sequence.ids) > recipe.batch_tokens:
                batches.append(batch)
                batch = []
            batch.append(sequence)
        batches.append(batch)
    rng.shuffle(batches)
    return batches


def loss_of(model: LlamaForCausalLM, batch: Sequences[Sequence]) -> torch.Tensor:
    """Mean weighted cross entropy of the targets; where the expert drew at random, divergence from that draw.

    Cross entropy with a uniform target is that divergence plus a constant, which is taken off so that a perfect model
    has loss 0 there.
    """
    rows: list[int] = []
    columns: list[int] = []
    weights: list[float] = []
    accepted: list[tuple[int, ...]] = []
    for row, sequence in enumerate(batch):
        for i, weight in enumerate(sequence.weights):
            if weight:
                rows.append(row)
                columns.append(i - 1)
                weights.append(weight)
                accepted.append(sequence.options.get(i, (sequence.ids[i],)))
    target = torch.zeros(len(accepted), len(TOKENS))
    for which, options in enumerate(accepted):
        target[which, list(options)] = 1 / len(options)
    entropy = torch.tensor([math.log(len(options)) for options in accepted])
    scale = torch.tensor(weights)
    hidden = model.model(pad(batch), use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[rows, columns]).float()
    divergence = F.cross_entropy(logits, target, reduction="none") - entropy
    return torch.sum(divergence * scale) / torch.sum(scale)


def train(recipe: TrainingRecipe, checkpoint: Path, *, checkpoint_blocks: int = 10) -> LlamaForCausalLM:
    """Run the recipe to its end, from the checkpoint if there is one of this recipe."""
    model = new_model(recipe.seed, layers=recipe.layers)
    optimizers = Optimizers(model, recipe)
    tokens, steps, block, rate = 0, 0, 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["recipe"] != asdict(recipe):
            raise ValueError(f"{checkpoint} belongs to another recipe: {state['recipe']}")
        model.load_state_dict(state["model"])
        optimizers.load_state_dict(state["optimizers"])
        tokens, steps, block = state["tokens"], state["steps"], state["block"]
        log.info("resuming from block %d, %.2f M tokens", block, tokens / 1e6)
    watched = held_out_games(40, hinted=0.8)
    model.train()
    began, losses = time.monotonic(), []
    while tokens < recipe.tokens:
        for batch in block_of_batches(recipe, block, tokens / recipe.tokens):
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            rate = optimizers.step(steps, min(1.0, tokens / recipe.tokens))
            tokens += sum(len(sequence.ids) for sequence in batch)
            steps += 1
            losses.append(loss.item())
        block += 1
        if block % checkpoint_blocks == 0 or tokens >= recipe.tokens:
            log.info(
                "%.2f M tokens, %d steps, %.0f s, rate %.2f, loss %.3f | %s",
                *(tokens / 1e6, steps, time.monotonic() - began, rate, sum(losses) / len(losses)),
                report(decisions(model, watched)),
            )
            losses = []
            state = {"recipe": asdict(recipe), "tokens": tokens, "steps": steps, "block": block}
            part = checkpoint.with_suffix(".part")
            torch.save(state | {"model": model.state_dict(), "optimizers": optimizers.state_dict()}, part)
            part.replace(checkpoint)
    return model


def export(model: LlamaForCausalLM, folder: Path) -> str:
    """Write weights, configuration, tokenizer and chat template; returns the SHA-256 of the weights file."""
    model.generation_config = GenerationConfig(
        bos_token_id=ID[BOS], eos_token_id=ID[TURN_END], pad_token_id=ID[PAD], max_new_tokens=48
    )
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.chmod(0o644)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that the model is written to")
    parser.add_argument("--checkpoint", type=Path, help="default: checkpoint.pt in that folder")
    parser.add_argument("--tokens", type=int, default=TrainingRecipe.tokens)
    parser.add_argument("--seed", type=int, default=TrainingRecipe.seed)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    recipe = TrainingRecipe(seed=arguments.seed, tokens=arguments.tokens)
    checkpoint = arguments.checkpoint or arguments.out / "checkpoint.pt"
    model = train(recipe, checkpoint)
    accuracies = decisions(model, held_out_games(400))
    log.info("%s", json.dumps({choice.value: [a.right, a.count] for choice, a in accuracies.items()}))
    log.info("model.safetensors %s", export(model, arguments.out))


if __name__ == "__main__":
    main()
