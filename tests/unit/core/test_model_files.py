"""The files of a base model: those that are fetched, and those that go with its merged students."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from huggingface_hub.utils import filter_repo_objects

from distillery.core.model_files import UNWANTED, WANTED
from distillery.training.weights import copy_companions

MISTRAL = [
    ".gitattributes", "README.md", "config.json", "consolidated.safetensors", "generation_config.json",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "onnx/model.json", "original/consolidated.00.pth", "original/model.safetensors", "params.json", "tekken.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
]  # fmt: skip


def test_weights_are_fetched_once_when_a_repository_has_them_twice():
    fetched = set(filter_repo_objects(MISTRAL, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    assert {name for name in fetched if name.endswith(".safetensors")} == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert fetched >= {"config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer.model"}
    assert not any("/" in name for name in fetched)


def test_copy_companions_copies_the_files_that_servers_read(tmp_path: Path):
    base, student = tmp_path / "base", tmp_path / "student"
    base.mkdir()
    student.mkdir()
    companions = {"added_tokens.json", "chat_template.json", "preprocessor_config.json", "tokenizer.json"}
    for name in (*companions, "config.json", "model.safetensors", "modeling_evil.py"):
        (base / name).write_text(name)
    copy_companions(base, student)
    assert {path.name for path in student.iterdir()} == companions


def test_newest_commit_is_that_of_the_cache_when_there_is_no_network(tmp_path: Path):
    """In a process of its own: the library reads its environment when it is imported."""
    commit = "0123456789abcdef" * 2 + "01234567"
    cached = tmp_path / "models--x--y"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "config.json").write_text("{}")
    program = "from distillery.core.model_files import newest_commit as n; print(n('x/y'), n('x/z'), n('not a/name'))"
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout == f"{commit} None None\n"
