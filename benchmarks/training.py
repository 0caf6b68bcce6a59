"""Tokens a second of our trainer next to TRL's SFTTrainer, on the same token ids, labels and model, in one run.

    python -m benchmarks.training --trl FOLDER

TRL is no dependency of Distillery: it is taken from a folder that ``make bench`` fills (requirements/bench.in), next to
the same torch, transformers and peft. It runs with its defaults but for what would hamper it or change it: nothing
is truncated, no gradient checkpointing, float32 as ours on a CPU, our order of samples. Both train the same LoRA on
models/micro with the same AdamW and schedule. Lengths are log-normal, their mean below 0.35 of the longest, as episodes
are; and, where packing can gain nothing, all equal. Real tokens are those of samples, without padding; what is computed
is counted at the model's embedding. Seconds are of CPU time, which other work on the machine hardly changes. The two
take turns, after a short one each that does not count.
"""

from __future__ import annotations

import contextlib
import io
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.support.figures import Figure, conclude, options
from distillery.core.api.spec.training import Training
from distillery.training.architecture import build_peft_config
from distillery.training.lora import Folders, LoraTrainer
from distillery.training.packing import plan_batches
from distillery.training.samples import Sample

MODEL = Path(__file__).parents[1] / "models" / "micro"
VOCABULARY, LONGEST, EQUAL, PAD = 235, 2048, 512, 0

SETTINGS = Training.model_validate(
    {
        "lora": {"rank": 16, "alpha": 32, "dropout": 0.0},
        "learningRate": 0.001,
        "epochs": 1,
        "batchSize": 8,
        "packedSequenceLength": 4096,
        "warmupRatio": 0.0,
    }
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One training.

    Attributes:
        seconds: of CPU time, without loading.
        real: tokens of samples that the model saw.
        computed: tokens that the model computed, padding included.
        losses: of every step, in nats a learned token.
    """

    seconds: float
    real: int
    computed: int
    losses: list[float]


class Count:
    """Counts tokens at an embedding."""

    def __init__(self) -> None:
        self.real = self.computed = 0

    def __call__(self, module: Any, arguments: tuple[Any, ...]) -> None:
        """A forward pass."""
        ids = arguments[0]
        self.computed += ids.numel()
        self.real += int((ids != PAD).sum())


def samples(count: int, *, equal: bool) -> list[Sample]:
    """Seeded samples; a twelfth of the tokens are learned, in replies of eight."""
    rng = random.Random(0)
    lengths = [EQUAL if equal else min(LONGEST, max(64, round(rng.lognormvariate(6.1, 0.7)))) for _ in range(count)]
    if not equal:
        lengths[count // 2] = LONGEST
    made = []
    for number, length in enumerate(lengths):
        ids = tuple(rng.randrange(4, VOCABULARY) for _ in range(length))
        made.append(Sample(number, ids, tuple(n for n in range(1, length) if n % 96 >= 88 or n == length - 1), ""))
    return made


def ours(chosen: Sequence[Sample]) -> Turn:
    """Our trainer, as stage train starts it."""
    count, losses, start = Count(), list[float](), 0.0

    class Watched(LoraTrainer):
        def _load_adapted_model(self) -> Any:
            model = super()._load_adapted_model()
            model.get_input_embeddings().register_forward_pre_hook(count)
            return model

        def _build_optimizer(self, parameters: Any) -> Any:
            nonlocal start
            start = time.process_time()
            return super()._build_optimizer(parameters)

        def _take_step(self, model: Any, trained: Any, optimizer: Any, rows: Any) -> float:
            losses.append(super()._take_step(model, trained, optimizer, rows))
            return losses[-1]

    with tempfile.TemporaryDirectory() as scratch:
        trainer = Watched(
            SETTINGS, folders=Folders(MODEL, Path(scratch)), report=lambda done, total: None, stop=threading.Event()
        )
        trainer.train(chosen, base_digest="")
    return Turn(time.process_time() - start, count.real, count.computed, losses)


def trl(chosen: Sequence[Sample]) -> Turn:
    """TRL's, with the samples in our order."""
    from datasets import Dataset  # pyright: ignore[reportMissingImports]
    from datasets.table import InMemoryTable  # pyright: ignore[reportMissingImports]
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportMissingImports]

    class Ordered(SFTTrainer):  # pyright: ignore[reportUntypedBaseClass]
        def _get_train_sampler(self, *arguments: Any) -> Any:
            return SequentialSampler(chosen)

    size = SETTINGS.batch_size
    steps = plan_batches(len(chosen), batch_size=size, epochs=SETTINGS.epochs, seed=SETTINGS.seed)
    ordered = [chosen[index] for step in steps for index in step]
    labels = [[t if n in set(s.targets) else -100 for n, t in enumerate(s.ids)] for s in ordered]
    columns = {"input_ids": [list(sample.ids) for sample in ordered], "labels": labels}
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        trainer = Ordered(
            model=model,
            processing_class=AutoTokenizer.from_pretrained(MODEL),
            train_dataset=Dataset(InMemoryTable.from_pydict(columns), fingerprint="benchmark"),
            peft_config=build_peft_config(SETTINGS.lora, model),
            args=SFTConfig(
                output_dir=scratch,
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                num_train_epochs=SETTINGS.epochs,
                per_device_train_batch_size=size,
                learning_rate=SETTINGS.learning_rate,
                weight_decay=SETTINGS.weight_decay,
                seed=SETTINGS.seed,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
        )
        count = Count()
        trainer.model.get_input_embeddings().register_forward_pre_hook(count)
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Turn(seconds, count.real, count.computed, losses)


def compare(chosen: Sequence[Sample], turns: int) -> dict[str, list[Turn]]:
    """Both, in turn, after a step that warms up."""
    found: dict[str, list[Turn]] = {"ours": [], "trl": []}
    ours(chosen[: SETTINGS.batch_size])
    trl(chosen[: SETTINGS.batch_size])
    for _ in range(turns):
        found["ours"].append(ours(chosen))
        found["trl"].append(trl(chosen))
    return found


def speed(turns: Sequence[Turn]) -> float:
    """Real tokens a second of CPU time, the median turn."""
    return statistics.median(turn.real / turn.seconds for turn in turns)


def main() -> None:
    """Compare on both kinds of lengths."""
    parser = options(__doc__)
    parser.add_argument("--trl", type=Path, required=True, help="folder with TRL and what it needs")
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    sys.path.append(str(chosen.trl))
    number, turns = (24, 1) if chosen.short else (chosen.samples, chosen.turns)
    varied = samples(number, equal=False)
    found = compare(varied, turns)
    lengths = [len(sample.ids) for sample in varied]
    packed, padded = found["ours"][0], found["trl"][0]
    off = max(abs(a - b) / b for a, b in zip(packed.losses, padded.losses, strict=True))
    n = f"{number} samples, {sum(lengths):,} tokens, {turns} repetition{'s' * (turns > 1)} each"
    ratio = speed(found["ours"]) / speed(found["trl"])
    share = f"{statistics.mean(lengths) / max(lengths):.2f}"
    figures = [
        Figure(f"real tokens/s, ours / TRL, mean length {share} of the longest", ratio, n, least=2, room=1.4),
        Figure("share of computed tokens that are real, ours", packed.real / packed.computed, n, least=0.97, room=1),
        Figure("share of computed tokens that are real, TRL", padded.real / padded.computed, n),
        Figure("tokens truncated", sum(lengths) - packed.real, n, most=0, room=1),
        Figure("largest relative difference of a step's loss, ours - TRL", off, n, most=0.01, room=2),
    ]
    details: dict[str, Any] = {"varied": {side: [asdict(t) for t in of] for side, of in found.items()}}
    if not chosen.short:
        same = compare(samples(number, equal=True), turns)
        n = f"{number} samples of {EQUAL} tokens, {turns} repetitions each"
        ratio = speed(same["ours"]) / speed(same["trl"])
        figures.append(Figure("real tokens/s, ours / TRL, all lengths equal", ratio, n, least=1))
        details["equal"] = {side: [asdict(t) for t in of] for side, of in same.items()}
    conclude("training", figures, chosen, details)


if __name__ == "__main__":
    main()
