"""The LoRA trainer on a real (tiny, random) Llama: exact, packed, resumable."""

from __future__ import annotations

import random
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from distillery.core.api.spec.training import Training
from distillery.training.attention import attend_within_samples
from distillery.training.lora import Folders, Interrupted, LoraTrainer
from distillery.training.packing import pack_rows
from distillery.training.samples import Sample
from distillery.training.weights import compute_model_digest, write_adapter, write_student

VOCABULARY = 50


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,  # a frozen head with tiny weights could not be taught anything
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def samples(count: int = 24) -> list[Sample]:
    """Random sequences in which now and then one of three tokens is to be foreseen."""
    rng = random.Random(0)
    result = []
    for number in range(count):
        ids = tuple(
            rng.choice((1, 2, 3)) if n % 3 == 2 else rng.randrange(VOCABULARY) for n in range(rng.randrange(6, 30))
        )
        result.append(Sample(number, ids, tuple(range(2, len(ids), 3)), ""))
    return result


def settings(**fields: Any) -> Training:
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1}
    return Training.model_validate(
        {"lora": lora, "learningRate": 0.02, "epochs": 4, "batchSize": 6, "packedSequenceLength": 64, **fields}
    )


def trainer(base: Path, folder: Path, *, stop_after: int = 0, start: Path | None = None, **fields: Any) -> LoraTrainer:
    stop = threading.Event()

    def report(done: int, total: int) -> None:
        if done == stop_after:
            stop.set()

    return LoraTrainer(settings(**fields), folders=Folders(base, folder, start), report=report, stop=stop)


def digest(base: Path, folder: Path, **fields: Any) -> str:
    trained = trainer(base, folder, **fields).train(samples(), base_digest="b")
    return write_adapter(trained.model, folder / "adapter", base_name="base")


def test_loss_falls_by_a_third_when_a_student_is_trained(base: Path, tmp_path: Path):
    strong = {"rank": 8, "alpha": 64, "dropout": 0.0}
    metrics = (
        trainer(base, tmp_path, lora=strong, learningRate=0.05, epochs=8).train(samples(), base_digest="b").metrics
    )
    assert metrics["lastLoss"] < 0.7 * metrics["firstLoss"]
    assert metrics["targets"] == 8 * sum(len(sample.targets) for sample in samples())


def test_adapter_is_the_same_when_the_training_is(base: Path, tmp_path: Path):
    assert digest(base, tmp_path / "a") == digest(base, tmp_path / "b")


def test_adapter_differs_when_the_seed_does(base: Path, tmp_path: Path):
    assert digest(base, tmp_path / "a") != digest(base, tmp_path / "b", seed=7)


@pytest.mark.parametrize("stop_after", [1, 7, 15])
def test_training_gives_the_same_adapter_when_it_was_interrupted(base: Path, tmp_path: Path, stop_after: int):
    whole = digest(base, tmp_path / "whole")
    with pytest.raises(Interrupted, match=f"after step {stop_after} of 16"):
        trainer(base, tmp_path / "parts", stop_after=stop_after).train(samples(), base_digest="b")
    assert digest(base, tmp_path / "parts") == whole


def test_checkpoint_is_ignored_when_the_training_differs(base: Path, tmp_path: Path):
    with pytest.raises(Interrupted):
        trainer(base, tmp_path / "x", stop_after=3).train(samples(), base_digest="b")
    assert digest(base, tmp_path / "x", epochs=2) == digest(base, tmp_path / "y", epochs=2)


def test_training_continues_from_an_adapter(base: Path, tmp_path: Path):
    strong: dict[str, Any] = {"lora": {"rank": 8, "alpha": 64, "dropout": 0.0}, "learningRate": 0.05, "epochs": 8}
    first = trainer(base, tmp_path / "first", **strong).train(samples(), base_digest="b")
    write_adapter(first.model, tmp_path / "adapter", base_name="base")
    again = trainer(base, tmp_path / "again", start=tmp_path / "adapter", **strong).train(samples(), base_digest="b")
    assert again.metrics["firstLoss"] < first.metrics["firstLoss"]


def test_training_from_an_adapter_gives_the_same_when_it_was_interrupted(base: Path, tmp_path: Path):
    digest(base, tmp_path / "first")
    start = tmp_path / "first" / "adapter"
    whole = digest(base, tmp_path / "whole", start=start)
    with pytest.raises(Interrupted):
        trainer(base, tmp_path / "parts", stop_after=7, start=start).train(samples(), base_digest="b")
    assert digest(base, tmp_path / "parts", start=start) == whole
    assert whole != digest(base, tmp_path / "other")


def test_adapter_of_another_shape_is_refused(base: Path, tmp_path: Path):
    digest(base, tmp_path / "first")
    other = trainer(
        base, tmp_path / "other", start=tmp_path / "first" / "adapter", lora={"rank": 8, "alpha": 8, "dropout": 0.0}
    )
    with pytest.raises(ValueError, match=r"another shape than spec\.training\.lora asks for"):
        other.train(samples(), base_digest="b")


@pytest.mark.parametrize("attention", ["ours", "masks"])
def test_packed_samples_do_not_see_each_other(base: Path, tmp_path: Path, attention: str):
    """The gradient of a packed row is the sum of the gradients of its samples alone."""
    model = AutoModelForCausalLM.from_pretrained(base)
    chosen = samples(3)

    def gradient(losses: list[torch.Tensor]) -> torch.Tensor:
        model.zero_grad()
        sum(losses, torch.zeros(())).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    lora = trainer(base, tmp_path)
    (row,) = pack_rows(chosen, 256)
    with attend_within_samples(model) if attention == "ours" else nullcontext():
        packed = gradient([lora._compute_loss(model, row)])
    alone = []
    for sample in chosen:
        logits = model(torch.tensor([sample.ids])).logits[0]
        targets = torch.tensor(sample.targets)
        alone.append(functional.cross_entropy(logits[targets - 1], torch.tensor(sample.ids)[targets], reduction="sum"))
    assert torch.allclose(packed, gradient(alone), atol=1e-5)


class Recorder(torch.optim.SGD):
    """Keeps the gradients of a step."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.gradients = torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]])


def test_step_has_the_same_gradient_when_rows_differ(base: Path, tmp_path: Path):
    rng = random.Random(1)
    long = Sample(99, tuple(rng.randrange(VOCABULARY) for _ in range(100)), tuple(range(5, 100, 7)), "")
    gradients = []
    for packed_sequence_length in (64, 8192):
        made = trainer(
            base, tmp_path, packedSequenceLength=packed_sequence_length, lora={"rank": 4, "alpha": 8, "dropout": 0.0}
        )
        torch.manual_seed(0)
        model = made._load_adapted_model()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)  # zero at first, which would hide the gradient of lora_A
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = Recorder(trained, lr=1.0)
        rows = pack_rows([*samples(7), long], packed_sequence_length)
        with attend_within_samples(model.get_base_model()):
            made._take_step(model, trained, optimizer, rows)
        gradients.append(optimizer.gradients)
    assert len(pack_rows([*samples(7), long], 64)) > len(pack_rows([*samples(7), long], 8192)) == 1
    assert gradients[0].abs().max() > 0.01
    assert torch.allclose(*gradients, rtol=0, atol=1e-6)


def test_checkpoint_is_used_when_only_the_row_length_changed(base: Path, tmp_path: Path):
    with pytest.raises(Interrupted):
        trainer(base, tmp_path, stop_after=3).train(samples(), base_digest="b")
    reported: list[int] = []
    lora = trainer(base, tmp_path, packedSequenceLength=128, checkpointIntervalSeconds=7)
    lora._report = lambda done, total: reported.append(done)
    lora.train(samples(), base_digest="b")
    assert reported[0] == 4


def test_merged_weights_answer_as_base_and_adapter_do(base: Path, tmp_path: Path):
    trained = trainer(base, tmp_path).train(samples(), base_digest="b").model
    trained.eval()
    ids = torch.tensor([samples()[0].ids])
    with torch.inference_mode():
        expected = trained(ids).logits
    write_adapter(trained, tmp_path / "adapter", base_name="base")
    write_student(trained, tmp_path, base=base, quantized=False)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.inference_mode():
        assert torch.allclose(merged(ids).logits, expected, atol=1e-4)


def test_adapter_is_safetensors_and_a_short_configuration(base: Path, tmp_path: Path):
    trained = trainer(base, tmp_path).train(samples(), base_digest="b").model
    write_adapter(trained, tmp_path / "adapter", base_name="org/base@abc")
    assert sorted(p.name for p in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert all("lora_" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    config = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert "org/base@abc" in config
    assert "auto_mapping" not in config


def test_digest_of_a_model_changes_with_its_template(base: Path, tmp_path: Path):
    before = compute_model_digest(base)
    (base / "chat_template.jinja").write_text("{{ messages }}")
    assert compute_model_digest(base) != before
    (base / "chat_template.jinja").unlink()
    assert compute_model_digest(base) == before
