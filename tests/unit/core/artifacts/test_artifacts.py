"""An artifact is whole or it is not there."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from distillery.core.artifacts import (
    ArtifactDamaged,
    ArtifactNotFound,
    FolderStore,
    StoreUnavailable,
    digest_of,
    folder,
)


def published(store: FolderStore, name: str = "r1-train", content: str = "weights") -> Path:
    draft = store.draft(name)
    (draft / "adapter").mkdir()
    (draft / "adapter" / "model.safetensors").write_text(content)
    store.publish(name, draft, {"student": "abc"})
    return store.root / name


def errno_of(error: BaseException) -> int | None:
    """Return the number of the system's error that caused an error of the store."""
    assert isinstance(error.__cause__, OSError)
    return error.__cause__.errno


def test_open_returns_an_artifact_when_it_was_published(tmp_path: Path):
    store = FolderStore(tmp_path)
    published(store)
    folder, manifest = store.open("r1-train")
    assert (folder / "adapter" / "model.safetensors").read_text() == "weights"
    assert manifest["student"] == "abc"


def test_open_finds_nothing_when_only_a_draft_exists(tmp_path: Path):
    store = FolderStore(tmp_path)
    (store.draft("r1-train") / "half").write_text("ha")
    with pytest.raises(ArtifactNotFound):
        store.open("r1-train")


@pytest.mark.parametrize("damage", ["change", "cut", "remove"])
def test_open_reports_damage_when_a_file_was_changed(tmp_path: Path, damage: str):
    store = FolderStore(tmp_path)
    path = published(store) / "adapter" / "model.safetensors"
    if damage == "change":
        path.write_text("Weights")
    elif damage == "cut":
        path.write_text("wei")
    else:
        path.unlink()
    with pytest.raises(ArtifactDamaged, match=r"model\.safetensors"):
        store.open("r1-train")


def test_publish_keeps_the_first_result_when_called_again(tmp_path: Path):
    store = FolderStore(tmp_path)
    published(store, content="first")
    published(store, content="second")
    assert (store.open("r1-train")[0] / "adapter" / "model.safetensors").read_text() == "first"


def test_publish_replaces_an_artifact_when_it_is_damaged(tmp_path: Path):
    store = FolderStore(tmp_path)
    (published(store) / "adapter" / "model.safetensors").write_text("broken")
    published(store, content="whole")
    assert (store.open("r1-train")[0] / "adapter" / "model.safetensors").read_text() == "whole"


def test_publish_leaves_nothing_behind_when_a_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = FolderStore(tmp_path)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(folder, "_sync", full)
    with pytest.raises(StoreUnavailable) as raised:
        published(store)
    assert errno_of(raised.value) == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
def test_publish_leaves_nothing_behind_when_the_disk_is_full(tmp_path: Path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", tmp_path], check=True)
    try:
        store = FolderStore(tmp_path)
        published(store, content="w" * 20_000)
        draft = store.draft("r2-train")
        (draft / "fits").write_bytes(b"w" * 36_000)  # what is left is too little for a manifest
        with pytest.raises(StoreUnavailable) as raised:
            store.publish("r2-train", draft, {"gate": "x" * 20_000})
        assert errno_of(raised.value) == errno.ENOSPC
        assert [path.name for path in tmp_path.iterdir()] == ["r1-train"]
        published(FolderStore(tmp_path), name="r3-train")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_open_refuses_a_manifest_when_it_names_a_file_elsewhere(tmp_path: Path):
    store = FolderStore(tmp_path)
    manifest = published(store) / "result.json"
    manifest.write_text(manifest.read_text().replace("adapter/model.safetensors", "../../etc/passwd"))
    with pytest.raises(ArtifactDamaged, match=r"\.\./\.\./etc/passwd"):
        store.open("r1-train")


def test_manifest_is_damaged_when_it_is_cut_short(tmp_path: Path):
    store = FolderStore(tmp_path)
    manifest = published(store) / "result.json"
    manifest.write_text(manifest.read_text()[:-5])
    with pytest.raises(ArtifactDamaged, match=r"result\.json"):
        store.manifest("r1-train")


def test_digest_stays_the_same_when_keys_have_another_order():
    assert digest_of({"a": 1, "b": 2}) == digest_of(json.loads('{"b": 2, "a": 1}'))
