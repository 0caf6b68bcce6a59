"""The end of a stage, in a few hundred bytes: all that its executor needs to plan on.

On Kubernetes it is the container's termination message, which holds 4,096 bytes; the whole result is in the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distillery.core.planner import StagePhase, StageResult, StageState

CONFIGURATION_ERROR = 78
"""The exit code of a stage that can't succeed until its configuration is fixed: EX_CONFIG of sysexits.h."""

MAX_BYTES = 4096
_MAX_CHARACTERS = 1000  # of a message: four bytes each at most
_MAX_TEXT = 700  # bytes of a text in a result: two of them, thirteen arms and two digests fit


def write_success(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the part of a stage's manifest that its executor needs."""
    summary = StageResult.read(manifest).summarize()
    for key in ("environment", "gate"):
        if key in summary:
            summary[key] = {name: _bounded(text) for name, text in summary[key].items()}
    text = json.dumps({"result": summary}, separators=(",", ":"), ensure_ascii=False)
    path.write_text(text, encoding="utf-8", errors="replace")


def _bounded(value: Any) -> Any:
    """Return the value, or the beginning of a text that is too long: environments and servers write any text."""
    while isinstance(value, str) and len(json.dumps(value, ensure_ascii=False).encode(errors="replace")) > _MAX_TEXT:
        value = value[: len(value) * 9 // 10]
    return value


def write_failure(path: Path, message: str, *, permanent: bool) -> None:
    """Write a failure; ``permanent`` means that another attempt is pointless."""
    shown = "".join(c if c.isprintable() or c == "\n" else " " for c in message[:_MAX_CHARACTERS])
    text = json.dumps({"message": shown, "permanent": permanent}, ensure_ascii=False)
    path.write_text(text, encoding="utf-8", errors="replace")


def read(text: str, *, attempt: int) -> StageState | None:
    """Parse the result or the failure that a stage left; None if it is neither."""
    try:
        document = json.loads(text)
        if "result" in document:
            if not isinstance(document["result"], dict):
                return None
            return StageState(StagePhase.SUCCEEDED, attempt, result=StageResult.read(document["result"]))
        return StageState(
            StagePhase.FAILED, attempt, permanent=bool(document["permanent"]), message=str(document["message"])
        )
    except (ValueError, KeyError, TypeError):
        return None
