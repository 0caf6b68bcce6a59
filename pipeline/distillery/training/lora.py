"""The trainer ``lora``: one LoRA on a frozen base model, from packed samples. Read :meth:`LoraTrainer.train` first.

One loop instead of a framework, because three properties have to hold together: no padding and no contamination
between packed samples on any device, logits for learned tokens only, and a resumed run that ends with the very bytes of
an uninterrupted one. The last holds on a CPU; on a GPU order, dropout and initialization are the same, and sums differ
by rounding. See docs/adr.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from peft import get_peft_model
from torch import Tensor
from torch.nn import functional

from distillery.core.api.spec.training import Training
from distillery.core.artifacts import digest_of
from distillery.core.artifacts.safetensors import digest_of_weights
from distillery.training import checkpoint
from distillery.training.architecture import build_peft_config, check_gradients
from distillery.training.attention import build_row_arguments
from distillery.training.packing import Row, pack_rows, plan_batches
from distillery.training.samples import Sample
from distillery.training.selftest import apply_reading, choose_reading
from distillery.training.weights import (
    ADAPTER_FILE,
    choose_dtype,
    collect_adapter_state,
    load_adapter,
    load_base,
    load_quantized,
)

_log = logging.getLogger(__name__)


class Interrupted(Exception):
    """A request to stop the trainer: a checkpoint is written, and the next start resumes from it."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained adapter.

    Attributes:
        model: the PEFT model that holds it.
        metrics: steps, tokens (read), targets (learned), first and last loss (means over up to 10 steps, nats a token),
            seconds in this process, and whether samples shared rows.
    """

    model: Any
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a training.

    Attributes:
        base: with the base model.
        checkpoints: for this training alone.
        start: with the adapter to continue from; None to begin with one that changes nothing.
    """

    base: Path
    checkpoints: Path
    start: Path | None = None


class LoraTrainer:
    """A trainer of a LoRA; ``distillery.trainers`` is its group of entry points.

    Args:
        settings: of the resource.
        folders: what it reads, and where it writes.
        report: called with (steps done, steps in all).
        stop: once set, the current step is finished and a checkpoint written.
    """

    name: ClassVar[str] = "lora"

    def __init__(
        self,
        settings: Training,
        *,
        folders: Folders,
        report: Callable[[int, int], None],
        stop: threading.Event,
    ) -> None:
        self._settings = settings
        self._base = folders.base
        self._checkpoints = folders.checkpoints
        self._start = folders.start
        self._report = report
        self._stop = stop
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def train(self, samples: Sequence[Sample], *, base_digest: str) -> Trained:
        """Train on the samples; resume from a checkpoint of the very same training if there is one.

        Raises:
            ArchitectureError: a part of the adapter takes no part in what the model computes.
            Interrupted: ``stop`` was set.
        """
        settings = self._settings
        steps = plan_batches(len(samples), batch_size=settings.batch_size, epochs=settings.epochs, seed=settings.seed)

        torch.manual_seed(settings.seed)
        model = self._load_adapted_model()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = self._build_optimizer(trained)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._compute_learning_rate_factor(len(steps)))

        fingerprint = self._compute_fingerprint(samples, base_digest)
        first, losses, tokens, targets = 0, [], 0, 0
        if state := checkpoint.load(self._checkpoints, fingerprint=fingerprint):
            first, losses, tokens, targets = state["step"], state["losses"], state["tokens"], state["targets"]
            model.load_state_dict(state["adapter"], strict=False)
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            _restore_random_state(state["random"])
            _log.info("resuming from step %d of %d", first, len(steps))

        started = saved = time.monotonic()
        base = model.get_base_model()
        chosen = choose_reading(
            base, samples, lambda row: self._compute_token_losses(model, row), choose_dtype(self._device)
        )
        packed_sequence_length = settings.packed_sequence_length if chosen.packed else 0
        with apply_reading(base, chosen):
            for number in range(first, len(steps)):
                rows = pack_rows([samples[index] for index in steps[number]], packed_sequence_length)
                loss = self._take_step(model, trained, optimizer, rows)
                schedule.step()
                losses.append(loss)
                tokens += sum(len(row.ids) for row in rows)
                targets += sum(len(row.labels) for row in rows)
                self._report(number + 1, len(steps))
                due = time.monotonic() - saved > settings.checkpoint_interval_seconds
                if (due or self._stop.is_set()) and number + 1 < len(steps):
                    checkpoint.save(
                        self._checkpoints,
                        {
                            "fingerprint": fingerprint,
                            "step": number + 1,
                            "losses": losses,
                            "tokens": tokens,
                            "targets": targets,
                            "adapter": collect_adapter_state(model),
                            "optimizer": optimizer.state_dict(),
                            "schedule": schedule.state_dict(),
                            "random": _get_random_state(),
                        },
                    )
                    saved = time.monotonic()
                    if self._stop.is_set():
                        raise Interrupted(f"stopped after step {number + 1} of {len(steps)}; a checkpoint is written")
        edge = losses[:10], losses[-10:]
        metrics = {
            "steps": len(steps),
            "tokens": tokens,
            "targets": targets,
            "firstLoss": sum(edge[0]) / len(edge[0]),
            "lastLoss": sum(edge[1]) / len(edge[1]),
            "seconds": time.monotonic() - started,
            "packed": chosen.packed,
        }
        return Trained(model, metrics)

    def _take_step(self, model: Any, trained: list[Tensor], optimizer: torch.optim.Optimizer, rows: list[Row]) -> float:
        """Take one optimizer step; return the mean loss per learned token, in nats."""
        learned = sum(len(row.labels) for row in rows)
        total = 0.0
        model.train()
        for row in rows:
            loss = self._compute_loss(model, row) / learned
            loss.backward()
            total += loss.item()
        check_gradients(model)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def _compute_loss(self, model: Any, row: Row) -> Tensor:
        """Return the summed cross-entropy of a row's learned tokens; logits are computed for those alone."""
        logits, labels = self._compute_logits(model, row)
        return functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=self._settings.label_smoothing)

    @torch.no_grad()
    def _compute_token_losses(self, model: Any, row: Row) -> Tensor:
        """Return the cross-entropy of each learned token, without dropout."""
        model.eval()
        logits, labels = self._compute_logits(model, row)
        return functional.cross_entropy(logits, labels, reduction="none")

    def _compute_logits(self, model: Any, row: Row) -> tuple[Tensor, Tensor]:
        """Return the predictions at a row's learned tokens, and those tokens."""

        def tensor(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=self._device)

        output = model(
            input_ids=tensor(row.ids)[None],
            position_ids=tensor(row.positions)[None],
            logits_to_keep=tensor(row.predictors),
            use_cache=False,
            **build_row_arguments(model, row.positions),
        )
        return output.logits[0].float(), tensor(row.labels)

    def _load_adapted_model(self) -> Any:
        quantized = self._settings.quantization == "nf4"
        model = load_quantized(self._base) if quantized else load_base(self._base, self._device)
        if self._device.type == "cuda":
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        adapted = get_peft_model(model, build_peft_config(self._settings.lora, model))
        if self._start:
            load_adapter(adapted, self._start)
        return adapted

    def _build_optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        rate, decay = self._settings.learning_rate, self._settings.weight_decay
        if self._settings.quantization == "nf4":
            from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports] - only with a GPU

            return AdamW8bit(parameters, lr=rate, weight_decay=decay)
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)

    def _compute_learning_rate_factor(self, steps: int) -> Callable[[int], float]:
        """Linear: up over the warm-up, then down to zero."""
        warmup = math.ceil(self._settings.warmup_ratio * steps)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return max(0.0, (steps - step) / max(1, steps - warmup))

        return factor

    def _compute_fingerprint(self, samples: Sequence[Sample], base_digest: str) -> str:
        return digest_of(
            {
                "base": base_digest,
                # a field added with a default leaves the checkpoints of a training in progress usable
                "settings": self._settings.model_dump(
                    mode="json",
                    exclude_defaults=True,
                    exclude={"packed_sequence_length", "checkpoint_interval_seconds"},
                ),
                "samples": [[sample.ids, sample.targets] for sample in samples],
                "torch": torch.__version__,
                **({"start": digest_of_weights(self._start / ADAPTER_FILE)} if self._start else {}),
            }
        )


def _get_random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
