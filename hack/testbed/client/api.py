"""A small client of the API server, for what ``kubectl`` is too slow for, and for where there is no ``kubectl``."""

from __future__ import annotations

import json
import ssl
from collections.abc import Generator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlencode

from hack.testbed.places import NODE_ADDRESS, Places

_PATIENCE = 60.0  # seconds; machines vary tenfold, and a node has two cores for all that runs on it


class ApiError(Exception):
    """The server refused, or can't be reached (``status`` 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Requests to the API server, each on a connection of its own, in the name of one component."""

    def __init__(self, places: Places, user: str = "admin") -> None:
        folder = places.certificates
        self._context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        self._context.load_cert_chain(folder / f"{user}.crt", folder / f"{user}.key")

    def get(self, path: str) -> Any:
        """Read an object or a list.

        Raises:
            ApiError: Not found, forbidden, or no server.
        """
        return self._request("GET", path)

    def create(self, path: str, body: dict[str, Any], **query: str) -> Any:
        """Create an object in the collection at ``path``; ``query`` are parameters, for example ``dryRun="All"``."""
        return self._request("POST", f"{path}?{urlencode(query)}" if query else path, body)

    def delete(self, path: str) -> Any:
        """Delete the object at ``path``."""
        return self._request("DELETE", path)

    def merge(self, path: str, body: dict[str, Any]) -> Any:
        """Change the object, or the subresource of it, at ``path`` by a merge patch (RFC 7386)."""
        return self._request("PATCH", path, body, content="application/merge-patch+json")

    def apply(self, path: str, body: dict[str, Any], **query: str) -> Any:
        """Apply an object on the server's side, as ``kubectl apply --server-side`` does: unknown fields are refused.

        Args:
            path: The object's.
            body: What is wanted of it.
            query: More parameters, for example ``dryRun="All"``; ``fieldManager`` is kubectl's if none is named.
        """
        parameters = {"fieldManager": "kubectl", "fieldValidation": "Strict", **query}
        return self._request("PATCH", f"{path}?{urlencode(parameters)}", body, content="application/apply-patch+yaml")

    def watch(self, path: str) -> Generator[dict[str, Any]]:
        """The events of a collection, beginning with what is there, until the server ends the watch."""
        connection = self._connect(timeout=None)
        try:
            response = self._send(connection, "GET", f"{path}?watch=1", None, "")
            for line in response:
                yield json.loads(line)
        except (OSError, HTTPException) as error:
            raise ApiError(0, str(error)) from error
        finally:
            connection.close()

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, content: str = "application/json"
    ) -> Any:
        connection = self._connect(timeout=_PATIENCE)
        try:
            answer = self._send(connection, method, path, body, content).read()
        except (OSError, HTTPException) as error:
            raise ApiError(0, str(error)) from error
        finally:
            connection.close()
        return json.loads(answer) if answer.startswith(b"{") else answer.decode()

    def _connect(self, timeout: float | None) -> HTTPConnection:
        return HTTPSConnection(NODE_ADDRESS, 6443, timeout=timeout, context=self._context)

    def _send(
        self, connection: HTTPConnection, method: str, path: str, body: dict[str, Any] | None, content: str
    ) -> HTTPResponse:
        headers = {"Content-Type": content} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        if response.status >= 400:
            message = response.read().decode(errors="replace")
            with suppress(ValueError, KeyError, TypeError):
                message = json.loads(message)["message"]
            raise ApiError(response.status, message)
        return response


class ProxiedApi(Api):
    """The same through ``kubectl proxy``, which brings the credentials."""

    def __init__(self, address: str) -> None:
        self._address = address

    def _connect(self, timeout: float | None) -> HTTPConnection:
        return HTTPConnection(self._address, timeout=timeout)
