"""The file with the routing document, which the kubelet makes of a ConfigMap."""

from __future__ import annotations

from pathlib import Path

from distillery.core.contracts.routing import RoutingConfig


class RoutingFile:
    """The document in its file, read again when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text: str | None = None
        self.current = RoutingConfig()

    def refresh(self) -> bool:
        """Read the file; True if it holds another document than before.

        Raises:
            InvalidRoutingConfig: once for each invalid text.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        if text == self._text or not text.strip():
            return False
        self._text = text
        self.current = RoutingConfig.parse(text)
        return True
