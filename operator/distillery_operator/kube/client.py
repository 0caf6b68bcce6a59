"""The API server: dicts in, dicts out. All writes but creations-once and annotations are server-side apply.

The official client's models are strict and would refuse quantities and fields that the server takes, so only its
transport is used: authentication, TLS, retries.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient

from distillery_operator.model.objects import Manifest, ObjectRef

CONTROLLER = "distillery"
"""Field manager of everything but progress."""


PAGE = 500
"""Objects that are listed at once."""


class ApiError(Exception):
    """The refusal of a request by the API server, or its silence.

    Attributes:
        status: HTTP status code; 0 where no answer came.
        reason: the server's word for it, such as ``AlreadyExists``.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def refuses(self) -> bool:
        """True if the server understood the request and will not carry it out, however often it is asked."""
        return 400 <= self.status < 500 and self.status not in (401, 408, 429)


class KubeClient:
    """A connection to the API server; use as an async context manager."""

    def __init__(self) -> None:
        self._client: ApiClient | None = None

    async def __aenter__(self) -> Self:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config()
        else:
            await config.load_kube_config()
        self._client = ApiClient()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            await self._client.close()

    @property
    def client(self) -> ApiClient:
        """The official client, for what it brings itself."""
        assert self._client is not None
        return self._client

    async def apply(self, manifest: Manifest, *, manager: str = CONTROLLER) -> Manifest:
        """Apply a manifest on the server side. One that holds already writes nothing."""
        return await self._patch(ObjectRef.to(manifest).path, manifest, manager)

    async def apply_status(self, manifest: Manifest, *, manager: str = CONTROLLER) -> Manifest:
        """Apply, on the server side, the fields of the status that ``manager`` owns."""
        return await self._patch(f"{ObjectRef.to(manifest).path}/status", manifest, manager)

    async def serves(self, group_version: str, plural: str) -> bool:
        """Return whether the API server knows a resource; it is assumed to unless the server denies it."""
        try:
            resources = await self.request("GET", f"/apis/{group_version}")
        except ApiError as error:
            return error.status not in (0, 404, 503)
        return any(resource["name"] == plural for resource in resources.get("resources", []))

    async def annotate(self, reference: ObjectRef, annotations: Mapping[str, str]) -> None:
        """Set annotations of an object that others own; do nothing if it is gone."""
        body = {"metadata": {"annotations": dict(annotations)}}
        try:
            await self.request("PATCH", reference.path, body=body, content="application/merge-patch+json")
        except ApiError as error:
            if error.status != 404:
                raise

    async def create(self, manifest: Manifest) -> bool:
        """Create an object once. Return False if one of its name exists already, which is left as it is."""
        try:
            await self.request("POST", ObjectRef.to(manifest).collection, body=manifest)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return False
            raise
        return True

    async def get(self, reference: ObjectRef) -> Manifest | None:
        """Return an object, or None."""
        try:
            return await self.request("GET", reference.path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace the former version of an object. Raises :class:`ApiError` (409) if another one is current."""
        return await self.request("PUT", ObjectRef.to(manifest).path, body=manifest)

    async def delete(self, reference: ObjectRef, *, uid: str = "") -> None:
        """Delete an object and what it owns, the owned first. Do nothing if it is gone or (by uid) another one."""
        body: Manifest = {"propagationPolicy": "Foreground"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", reference.path, body=body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    async def list(self, api_version: str, kind: str, namespace: str, **selectors: str) -> list[Manifest]:
        """Return the objects of a kind in a namespace; ``labelSelector`` and ``fieldSelector`` narrow them down."""
        items = await self.list_all(ObjectRef(api_version, kind, namespace, "").collection, **selectors)
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    async def list_all(self, collection: str, **selectors: str) -> list[Manifest]:
        """Return the objects of a collection, which the server sends in pages."""
        items: list[Manifest] = []
        query = {**selectors, "limit": str(PAGE)}
        while True:
            page = await self.request("GET", collection, query=query)
            items += page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return items
            query["continue"] = following

    async def _patch(self, path: str, manifest: Manifest, manager: str) -> Manifest:
        query = {"fieldManager": manager, "force": "true"}
        return await self.request("PATCH", path, query=query, body=manifest, content="application/apply-patch+yaml")

    async def request(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: Any = None,
        content: str = "application/json",
    ) -> Manifest:  # fmt: skip
        """Send one request and return the answer. Raises :class:`ApiError`."""
        serialized = await self.client.param_serialize(
            method,
            f"{path}?{urlencode(query)}" if query else path,
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self.client.call_api(*serialized, _request_timeout=60)
            raw = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiError(0, "NoAnswer", f"the API server does not answer: {error or type(error).__name__}") from error
        try:
            answer: Manifest = json.loads(raw)
        except ValueError:
            answer = {"reason": response.reason, "message": raw[:500].decode(errors="replace")}
        if response.status >= 400:
            raise ApiError(response.status, answer.get("reason") or "", answer.get("message") or str(response.status))
        return answer
