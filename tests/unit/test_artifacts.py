"""An artifact is whole or it is not there."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from distillery import artifacts
from distillery.artifacts import ArtifactError, Store


def published(store: Store, name: str = "r1-train", content: str = "weights") -> Path:
    draft = store.draft(name)
    (draft / "adapter").mkdir()
    (draft / "adapter" / "model.safetensors").write_text(content)
    store.publish(name, draft, {"student": "abc"})
    return store.root / name


def test_a_published_artifact_can_be_opened(tmp_path: Path):
    store = Store(tmp_path)
    published(store)
    folder, manifest = store.open("r1-train")
    assert (folder / "adapter" / "model.safetensors").read_text() == "weights"
    assert manifest["student"] == "abc"


def test_a_draft_is_no_artifact(tmp_path: Path):
    store = Store(tmp_path)
    (store.draft("r1-train") / "half").write_text("ha")
    assert not store.has("r1-train")
    with pytest.raises(ArtifactError, match="no readable manifest"):
        store.open("r1-train")


@pytest.mark.parametrize("damage", ["change", "cut", "remove"])
def test_a_damaged_file_is_found(tmp_path: Path, damage: str):
    store = Store(tmp_path)
    path = published(store) / "adapter" / "model.safetensors"
    if damage == "change":
        path.write_text("Weights")
    elif damage == "cut":
        path.write_text("wei")
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        store.open("r1-train")


def test_the_first_result_counts(tmp_path: Path):
    store = Store(tmp_path)
    published(store, content="first")
    published(store, content="second")
    assert (store.open("r1-train")[0] / "adapter" / "model.safetensors").read_text() == "first"


def test_a_broken_one_is_replaced(tmp_path: Path):
    store = Store(tmp_path)
    (published(store) / "adapter" / "model.safetensors").write_text("broken")
    published(store, content="whole")
    assert (store.open("r1-train")[0] / "adapter" / "model.safetensors").read_text() == "whole"


def test_a_full_disk_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store(tmp_path)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(artifacts, "_sync", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        published(store)
    assert not store.has("r1-train")
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_cut_short_is_none(tmp_path: Path):
    store = Store(tmp_path)
    manifest = published(store) / "result.json"
    manifest.write_text(manifest.read_text()[:-5])
    with pytest.raises(ArtifactError, match="no readable manifest"):
        store.manifest("r1-train")


def test_digests_do_not_depend_on_the_order_of_keys():
    assert artifacts.digest_of({"a": 1, "b": 2}) == artifacts.digest_of(json.loads('{"b": 2, "a": 1}'))
