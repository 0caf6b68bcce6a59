"""The student's architecture: what its configuration says, read without its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def text_config(folder: Path) -> Any:
    """The configuration of a model's language part."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True).get_text_config()


def context_length(folder: Path) -> int:
    """The tokens of a model's context; as good as infinite for a model without positions."""
    return getattr(text_config(folder), "max_position_embeddings", None) or sys.maxsize
