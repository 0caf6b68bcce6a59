"""The observers of a response while it passes from the server to the client."""

from __future__ import annotations


class ResponseObserver:
    """An observer that does nothing; others override what they need."""

    def chunk(self, data: bytes) -> None:
        """Note a part of the response's body."""

    def error(self) -> None:
        """Note that the server answered with an error."""
