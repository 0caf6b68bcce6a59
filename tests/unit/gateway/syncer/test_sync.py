"""The syncer makes vLLM hold the adapters of the routing document, if their digests match."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from aiohttp import web
from safetensors.torch import save_file

from distillery.core.artifacts import ArtifactError, FolderStore, Identity, RunArtifacts, Store
from distillery.core.artifacts.safetensors import digest_of_weights
from distillery.core.contracts.routing import Adapter, RoutingConfig, Target
from distillery_gateway.syncer.sync import Syncer
from tests.fakes.vllm import FakeVllm

CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none",
    "target_modules": ["q_proj"], "base_model_name_or_path": "base",
}  # fmt: skip


def publish(store: Store, stage: str, value: float, **config: Any) -> Adapter:
    draft = store.draft(stage)
    (draft / "adapter").mkdir()
    save_file({"a": torch.full((4, 8), value)}, draft / "adapter" / "adapter_model.safetensors")
    (draft / "adapter" / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    (draft / "adapter" / "evil.py").write_text("import os")
    digest = digest_of_weights(draft / "adapter" / "adapter_model.safetensors")
    store.publish(stage, draft, {"student": digest})
    return Adapter(f"student-{digest[:12]}", stage, digest)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
async def in_use() -> AsyncGenerator[list[str]]:
    """What a fake gateway says that it uses; its URL stands first."""
    used: list[str] = []

    async def state(_: web.Request) -> web.Response:
        return web.json_response({"generation": 1, "modelsInUse": used[1:]})

    app = web.Application()
    app.router.add_get("/state", state)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    used.append(f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}")  # type: ignore[union-attr]
    yield used
    await runner.cleanup()


@pytest.fixture
async def syncer(vllm: FakeVllm, store: FolderStore, in_use: list[str], tmp_path: Path) -> AsyncGenerator[Syncer]:
    async with aiohttp.ClientSession() as session:
        yield Syncer(session, vllm.url, in_use[0], store, tmp_path / "adapters")


def want(*adapters: Adapter, generation: int = 1) -> RoutingConfig:
    return RoutingConfig(generation, adapters, {"bot": tuple(Target(a.name) for a in adapters)})


async def test_syncer_loads_an_adapter_from_a_folder_of_two_files(
    syncer: Syncer, vllm: FakeVllm, store: FolderStore, tmp_path: Path
):
    adapter = publish(store, "r1-train-distilled", 1.0, auto_mapping={"parent_library": "os"})
    await syncer.sync(want(adapter))
    assert list(vllm.adapters) == [adapter.name]
    place = Path(vllm.adapters[adapter.name])
    assert place.is_relative_to(tmp_path / "adapters")
    assert sorted(path.name for path in place.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((place / "adapter_config.json").read_text()) == CONFIG
    assert syncer.generation == 1


async def test_syncer_loads_all_adapters_when_vllm_restarts(syncer: Syncer, vllm: FakeVllm, store: FolderStore):
    adapter = publish(store, "r1-train-distilled", 1.0)
    await syncer.sync(want(adapter))
    vllm.adapters.clear()
    await syncer.sync(want(adapter))
    assert list(vllm.adapters) == [adapter.name]


async def test_syncer_has_no_generation_when_vllm_is_away(syncer: Syncer, vllm: FakeVllm, store: FolderStore):
    adapter = publish(store, "r1-train-distilled", 1.0)
    await syncer.sync(want(adapter))
    await vllm._runner.cleanup()
    with pytest.raises(aiohttp.ClientError):
        await syncer.sync(want(adapter))
    assert syncer.generation == 0


async def test_syncer_unloads_an_adapter_when_it_is_no_longer_in_use(
    syncer: Syncer, vllm: FakeVllm, store: FolderStore, in_use: list[str], tmp_path: Path
):
    old, new = publish(store, "r1-train-distilled", 1.0), publish(store, "r2-train-distilled", 2.0)
    await syncer.sync(want(old))
    in_use.append(old.name)
    await syncer.sync(want(new, generation=2))
    assert set(vllm.adapters) == {old.name, new.name}
    assert syncer.generation == 2
    in_use.remove(old.name)
    await syncer.sync(want(new, generation=2))
    assert set(vllm.adapters) == {new.name}
    assert not (tmp_path / "adapters" / old.name).exists()


async def test_syncer_unloads_nothing_while_the_gateway_is_away(syncer: Syncer, vllm: FakeVllm, store: FolderStore):
    old, new = publish(store, "r1-train-distilled", 1.0), publish(store, "r2-train-distilled", 2.0)
    await syncer.sync(want(old))
    syncer._gateway = "http://127.0.0.1:1"
    await syncer.sync(want(new, generation=2))
    assert set(vllm.adapters) == {old.name, new.name}


@pytest.mark.parametrize("damage", ["swapped", "corrupted", "configuration", "pickle"])
async def test_syncer_loads_no_adapter_when_its_digest_differs(
    syncer: Syncer, vllm: FakeVllm, store: FolderStore, damage: str
):
    adapter = publish(store, "r1-train-distilled", 1.0)
    other = publish(store, "r2-train-distilled", 2.0, peft_type="IA3")
    folder = store.root / "r1-train-distilled" / "adapter"
    match damage:
        case "swapped":
            adapter = Adapter(adapter.name, "r2-train-distilled", adapter.digest)
        case "corrupted":
            with (folder / "adapter_model.safetensors").open("r+b") as file:
                file.seek(-4, 2)
                file.write(b"evil")
        case "configuration":
            adapter = other
        case _:
            (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04pickle")
    await syncer.sync(want(adapter))
    assert vllm.adapters == {}
    assert syncer.generation == 0
    assert syncer.not_ready_reason == syncer.problem != ""


async def test_syncer_is_ready_when_its_adapters_are_loaded(syncer: Syncer, vllm: FakeVllm, store: FolderStore):
    adapter = publish(store, "r1-train-distilled", 1.0)
    assert syncer.not_ready_reason == "the adapters are not loaded yet"
    await syncer.sync(want(adapter))
    assert syncer.not_ready_reason == ""
    await vllm._runner.cleanup()
    with pytest.raises(aiohttp.ClientError):
        await syncer.sync(want(adapter))
    assert syncer.not_ready_reason == "the adapters are not loaded yet"


async def test_syncer_stays_ready_when_a_canary_cannot_be_loaded(
    syncer: Syncer, vllm: FakeVllm, store: FolderStore, in_use: list[str]
):
    adapter = publish(store, "r1-train-distilled", 1.0)
    await syncer.sync(want(adapter))
    in_use.append(adapter.name)
    await syncer.sync(want(Adapter("student-bad", "r2-nosuch", "0" * 64), generation=2))
    assert list(vllm.adapters) == [adapter.name]
    assert syncer.generation == 0
    assert "r2-nosuch" in syncer.problem
    assert syncer.not_ready_reason == ""


async def test_syncer_is_ready_when_the_document_has_no_adapters(syncer: Syncer):
    await syncer.sync(RoutingConfig(1, (), {"bot": (Target("base"),)}))
    assert (syncer.generation, syncer.not_ready_reason) == (1, "")


async def test_syncer_loads_an_old_artifact_when_its_digest_matches(
    vllm: FakeVllm, store: FolderStore, in_use: list[str], tmp_path: Path
):
    run = Identity("11111111-2222-3333-4444-555555555555", "a" * 64)
    own = RunArtifacts(FolderStore(tmp_path / "own"), store, run=run, recorded={})
    wanted, other = publish(store, "r1-train-distilled", 1.0), publish(store, "r2-train-distilled", 2.0)
    asked = replace(other, name="student-wanted", digest=wanted.digest)  # of an artifact that another run may own
    async with aiohttp.ClientSession() as session:
        syncer = Syncer(session, vllm.url, in_use[0], own, tmp_path / "adapters")
        await syncer.sync(want(wanted, asked))
    assert list(vllm.adapters) == [wanted.name]
    assert "r2-train-distilled" in syncer.problem


async def test_syncer_loads_a_good_adapter_when_another_is_bad(syncer: Syncer, vllm: FakeVllm, store: FolderStore):
    good = publish(store, "r1-train-distilled", 1.0)
    bad = Adapter("student-bad", "r9-nosuch", "0" * 64)
    await syncer.sync(want(bad, good))
    assert list(vllm.adapters) == [good.name]
    assert "r9-nosuch" in syncer.problem


WEIGHTS = {"b": torch.ones(2, 3), "a": torch.zeros(4)}


def test_digest_of_weights_is_the_same_when_values_are(tmp_path: Path):
    save_file(WEIGHTS, tmp_path / "x", metadata={"format": "pt"})
    save_file(dict(reversed(WEIGHTS.items())), tmp_path / "y")
    assert digest_of_weights(tmp_path / "x") == digest_of_weights(tmp_path / "y")


def test_digest_of_weights_differs_when_a_value_does(tmp_path: Path):
    save_file(WEIGHTS, tmp_path / "x")
    save_file({**WEIGHTS, "a": torch.ones(4)}, tmp_path / "y")
    assert digest_of_weights(tmp_path / "x") != digest_of_weights(tmp_path / "y")


def test_digest_of_weights_fails_when_the_file_is_cut_short(tmp_path: Path):
    save_file(WEIGHTS, tmp_path / "x")
    (tmp_path / "cut").write_bytes((tmp_path / "x").read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=f"{tmp_path / 'cut'}.*it was cut"):
        digest_of_weights(tmp_path / "cut")
