"""Which of a base model's files are fetched, and which go with its merged students."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub.utils import filter_repo_objects

from distillery.models import UNWANTED, WANTED
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


def test_a_merged_student_gets_what_servers_read_of_its_base(tmp_path: Path):
    base, student = tmp_path / "base", tmp_path / "student"
    base.mkdir()
    student.mkdir()
    wanted = {"added_tokens.json", "chat_template.json", "preprocessor_config.json", "tokenizer.json"}
    for name in (*wanted, "config.json", "model.safetensors", "modeling_evil.py"):
        (base / name).write_text(name)
    copy_companions(base, student)
    assert {path.name for path in student.iterdir()} == wanted
