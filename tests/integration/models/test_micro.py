"""The demonstration's model: what is committed is what the scripts make, and it loads like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pretraining.decisions import decisions, held_out_games
from pretraining.demonstrations import Sequence, drill, game
from pretraining.search import Choice
from pretraining.train import TrainingRecipe, block_of_batches, train
from pretraining.vocabulary import TOKENS, build_tokenizer
from transformers import AutoTokenizer, LlamaForCausalLM

from distillery.training.samples import ChatRenderer


def test_committed_tokenizer_equals_the_one_that_the_script_builds(micro: Path, tmp_path: Path):
    build_tokenizer().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (micro / name).read_text() == (tmp_path / name).read_text()


def test_model_is_a_llama_below_5_mb_in_safetensors_without_code(micro: Path):
    config = json.loads((micro / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == len(TOKENS)
    assert (micro / "model.safetensors").stat().st_size < 5_000_000
    assert not list(micro.glob("*.bin")) + list(micro.glob("*.py"))


def test_model_decides_as_well_as_its_card_says(micro: Path):
    model = LlamaForCausalLM.from_pretrained(micro)
    found = decisions(model, held_out_games(60))
    assert found[Choice.HINT].share > 0.95
    assert found[Choice.SWEEP].share > 0.9
    assert found[Choice.FOUND].share > 0.95
    assert found[Choice.ABSENT].share > 0.98


def test_its_chat_template_gives_the_ids_it_was_trained_on(micro: Path):
    renderer = ChatRenderer(AutoTokenizer.from_pretrained(micro))
    for number in range(20):
        sequence = game(f"template/{number}")
        text = " ".join(TOKENS[i] for i in sequence.ids[1:])
        opening, *turns = text.split(" \n >")
        messages = [{"role": "user", "content": opening}]
        for turn in turns[:-1]:
            reply, _, observation = turn.strip(" ").partition(" \n ")
            messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": observation}]
        ids = renderer.render_prompt(messages)  # type: ignore[arg-type]
        assert list(sequence.ids[: len(ids)]) == ids


def test_demonstration_is_the_same_when_its_name_is():
    assert game("a").ids == game("a").ids
    assert game("a").ids != game("b").ids
    assert drill("a").ids == drill("a").ids


def test_demonstration_has_weights_only_where_the_model_chooses():
    for sequence in (game("c", hinted=1.0), drill("d")):
        assert len(sequence.ids) == len(sequence.weights) == len(sequence.choices)
        assert all(
            (weight > 0) == (choice is not None)
            for weight, choice in zip(sequence.weights, sequence.choices, strict=True)
        )


def test_pretraining_gives_the_same_weights_when_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(1)
    recipe = TrainingRecipe(tokens=12_000, layers=1, block_sequences=12)
    whole = train(recipe, tmp_path / "whole.pt", checkpoint_blocks=1)

    def interrupted(recipe: TrainingRecipe, number: int, progress: float) -> list[list[Sequence]]:
        if number == 2:
            raise KeyboardInterrupt
        return block_of_batches(recipe, number, progress)

    with monkeypatch.context() as patch:
        patch.setattr("pretraining.train.block_of_batches", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "cut.pt", checkpoint_blocks=1)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["block"] == 2
    again = train(recipe, tmp_path / "cut.pt", checkpoint_blocks=1)
    for ours, theirs in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
