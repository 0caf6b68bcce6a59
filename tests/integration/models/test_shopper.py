"""The little shopper: what is committed is what the script makes, and it shops as its card says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from distillery.agents.plain import Plain
from distillery_webshop.environment import WebShop

SHOPPER = Path(__file__).parents[3] / "models" / "shopper"
sys.path.insert(0, str(SHOPPER))

from pretrain import OPTIONS, OPTIONS_HINT, SEARCH_HINT, Expert, build_tokenizer, vocabulary  # noqa: E402

STEPS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


def test_committed_tokenizer_equals_the_one_that_the_script_builds(tmp_path: Path):
    build_tokenizer().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (SHOPPER / name).read_text() == (tmp_path / name).read_text()


def test_model_is_a_llama_below_1_5_mb():
    config = json.loads((SHOPPER / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == len(vocabulary())
    assert (SHOPPER / "model.safetensors").stat().st_size < 1_500_000


def test_lesson_is_the_same_when_its_name_is(folder: Path):
    expert = Expert(folder)
    assert expert.lesson("a") == expert.lesson("a") != expert.lesson("b")


def shop(environment: WebShop, hints: list[str], *, tasks: int) -> list[float]:
    """The scores of greedy episodes."""
    model: Any = LlamaForCausalLM.from_pretrained(SHOPPER)
    tokenizer = AutoTokenizer.from_pretrained(SHOPPER)
    agent, scores = Plain(environment), list[float]()
    for task in environment.catalog("test")[:tasks]:
        session = environment.open(task)
        observation = session.reset()
        messages = list(agent.build_prefix(task, observation.text, hints=hints, examples=0).messages)
        for _ in range(STEPS):
            prompt = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
            with torch.no_grad():
                ids = model.generate(**prompt, do_sample=False)
            reply = agent.parse(tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :]))
            if reply.action:
                observation = session.step(reply.action)
            answer = observation.text if reply.action else reply.feedback
            messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": answer}]
            if observation.done:
                break
        scores.append(observation.score)
    return scores


def test_shopper_buys_without_options_by_default(folder: Path):
    environment = WebShop(OPTIONS, folder)
    environment.prepare({})
    careless, hinted = (shop(environment, hints, tasks=24) for hints in ([], [SEARCH_HINT, OPTIONS_HINT]))
    assert sum(score > 0 for score in careless) >= 20
    assert sum(hinted) > sum(careless) + 2
    assert hinted.count(1.0) >= careless.count(1.0) + 5
