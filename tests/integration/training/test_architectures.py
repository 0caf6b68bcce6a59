"""Every architecture of docs/architectures.md, tiny and random: it trains right, or it is refused with the reason."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from distillery.core.api import parse
from distillery.core.api.spec.training import Lora, Training
from distillery.training.architecture import (
    ArchitectureError,
    check_adapter,
    check_gradients,
    check_student,
    find_target_modules,
)
from distillery.training.lora import Folders, LoraTrainer
from distillery.training.samples import Sample, TemplateError, check_template
from distillery.training.selftest import choose_reading
from distillery.training.weights import collect_adapter_state
from tests.integration.training.architectures import ARCHITECTURES, VOCABULARY, Architecture, tiny_model
from tests.unit.documents import document
from tests.unit.templates import CHATML, tokenizer

PAGE = Path(__file__).parents[3] / "docs" / "architectures.md"
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
TEMPLATE_ERRORS = {"only appends": "rewrites earlier turns", "today's date": "writes today's date"}


def trainer(folder: Path) -> LoraTrainer:
    torch.set_num_threads(1)
    settings = Training.model_validate({"lora": {"rank": 2, "alpha": 4, "dropout": 0.0}})
    return LoraTrainer(
        settings, folders=Folders(folder, folder / "checkpoint"), report=lambda *_: None, stop=threading.Event()
    )


def samples() -> list[Sample]:
    rng = random.Random(3)
    result = []
    for number, length in enumerate((21, 40, 13)):
        ids = tuple(rng.randrange(VOCABULARY) for _ in range(length))
        result.append(Sample(number, ids, tuple(range(1, length)), ""))
    return result


@torch.no_grad()
def own_loss(model: torch.nn.Module) -> float:
    """Return the mean loss of the samples as the model computes it when nothing of ours is involved."""
    losses = []
    for sample in samples():
        ids = torch.tensor(sample.ids)
        losses.append(functional.cross_entropy(model(ids[None]).logits[0][:-1], ids[1:], reduction="none"))
    return torch.cat(losses).mean().item()


def template_of(architecture: Architecture) -> str:
    """Return how its chat template behaves."""
    try:
        check_template(tokenizer(architecture.template, eos=architecture.eos))
    except TemplateError as error:
        (behavior,) = (word for part, word in TEMPLATE_ERRORS.items() if part in str(error))
        return behavior
    return "appends"


def experts_left_out(architecture: Architecture) -> bool:
    """Return whether it is refused for its expert layers."""
    try:
        check_adapter(architecture.config(), Lora(dropout=0.1), model="tiny")
    except ArchitectureError as error:
        return "expert layers" in str(error)
    return False


def line(architecture: Architecture, covered: str, rows: str, result: str) -> str:
    cells = architecture.name, f"`{architecture.kind}`", template_of(architecture), covered, rows, result
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", BY_NAME)
def test_architecture_trains_or_is_refused_as_the_page_says(name: str, tmp_path: Path):
    architecture, model = BY_NAME[name], tiny_model(name)
    if experts_left_out(architecture):
        assert line(architecture, "no, because of its experts", "–", "refused") in PAGE.read_text()
        return
    model.save_pretrained(tmp_path)
    lora = trainer(tmp_path)
    chosen = choose_reading(model, samples(), lambda row: lora._compute_token_losses(model, row), torch.float32)
    trained = lora.train(samples(), base_digest="b")
    assert trained.metrics["firstLoss"] == pytest.approx(own_loss(tiny_model(name)), abs=1e-4)
    assert trained.metrics["packed"] == chosen.packed
    moved = {key for key, tensor in collect_adapter_state(trained.model).items() if "lora_B" in key and tensor.any()}
    assert {key.partition(".lora_B")[0].rpartition(".")[2] for key in moved} == set(find_target_modules(model))
    rows = "one sample a row" if not chosen.packed else "packed, with masks" if chosen.own_attention else "packed"
    covered = ", ".join(f"`{name}`" for name in find_target_modules(model))
    result = "trains" if template_of(architecture) == "appends" else "refused"
    assert line(architecture, covered, rows, result) in PAGE.read_text()


def test_small_leak_is_found_when_bfloat16_would_hide_it(tmp_path: Path):
    config = BY_NAME["Qwen3.5"].config()
    config.initializer_range = 0.05  # packed and alone differ by 0.01 then, which rounding could explain
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    lora = trainer(tmp_path)
    chosen = choose_reading(model, samples(), lambda row: lora._compute_token_losses(model, row), torch.bfloat16)
    assert not chosen.packed


def test_page_lists_the_tested_architectures_and_no_others():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == list(BY_NAME)


@pytest.mark.parametrize("name", ["Qwen2.5", "Llama 3"])
def test_default_targets_are_the_usual_seven(name: str):
    assert set(find_target_modules(tiny_model(name))) == set(SEVEN)


@pytest.mark.parametrize(
    ("name", "targets", "problem"),
    [
        (
            "Phi-4",
            SEVEN,
            "tiny has no q_proj, k_proj, v_proj, gate_proj, up_proj; leave the field out, or write down_proj,",
        ),
        (
            "Qwen3.5",
            SEVEN,
            "in_proj_a, in_proj_b, in_proj_qkv, in_proj_z, out_proj would get no update; leave the field",
        ),
        ("Qwen2.5", ("q_proj", "v_proj"), "down_proj, gate_proj, k_proj, o_proj, up_proj would get no update"),
    ],
)
def test_targets_are_refused_when_they_miss_a_layer(name: str, targets: tuple[str, ...], problem: str):
    with pytest.raises(ArchitectureError) as raised:
        check_adapter(BY_NAME[name].config(), Lora.model_validate({"targetModules": targets}), model="tiny")
    assert str(raised.value).startswith(f"spec.training.lora.targetModules: {problem}")


def test_student_is_refused_when_experts_would_be_left_out(tmp_path: Path):
    BY_NAME["Qwen3-MoE"].config().save_pretrained(tmp_path)
    tokenizer(CHATML).save_pretrained(tmp_path)
    spec = parse(document(models={"student": {"model": str(tmp_path)}})).spec
    with pytest.raises(
        ArchitectureError, match=r"spec\.models\.student\.model: .*experts\.gate_up_proj, experts\.down_proj"
    ):
        check_student(tmp_path, spec)


def test_check_gradients_fails_when_an_adapter_gets_no_gradient(tmp_path: Path):
    tiny_model("Qwen2.5").save_pretrained(tmp_path)
    model = trainer(tmp_path)._load_adapted_model()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "o_proj" not in name:
            parameter.grad = torch.zeros_like(parameter)
    with pytest.raises(ArchitectureError, match="o_proj"):
        check_gradients(model)


def test_target_has_its_path_when_another_tower_shares_its_name():
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(2, 2), "up": torch.nn.Linear(2, 2)})
            self.vision = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(2, 2)})

        def get_decoder(self) -> torch.nn.Module:
            return self.decoder

    assert find_target_modules(Both()) == ["decoder.q_proj", "up"]
