"""Runs of a namespace through the API server alone, without kubectl: what needs no node takes no more than that."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from distillery.core.api import GROUP, VERSION
from distillery_operator.crd.generate import PLURAL
from hack.testbed.client.api import Api, ApiError
from hack.testbed.client.kubectl import eventually
from tests.e2e import caps


@dataclass(frozen=True)
class Runs:
    """The runs of a namespace.

    Attributes:
        api: the API server, as administrator.
        namespace: its name.
    """

    api: Api
    namespace: str

    @property
    def collection(self) -> str:
        """The path of all of them."""
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}"

    def get(self, name: str) -> dict[str, Any]:
        """A run."""
        return self.api.get(f"{self.collection}/{name}")

    def apply(self, document: dict[str, Any], **query: str) -> dict[str, Any]:
        """Apply a run on the server's side. Raises ApiError with what the server says if it refuses."""
        if not document["spec"].get("suspend"):
            caps.RUNS.count(f"{self.namespace}/{document['metadata']['name']}")
        return self.api.apply(f"{self.collection}/{document['metadata']['name']}", document, **query)

    def refusal(self, document: dict[str, Any]) -> str:
        """What the API server says to a document that it must refuse, as ``kubectl create`` would send it."""
        answer = self.judge(document)
        assert answer, f"it was not refused: {document}"
        return answer

    def judge(self, document: dict[str, Any]) -> str:
        """What the API server says if it refuses a document, else nothing; it keeps nothing.

        Raises:
            ApiError: The server judged nothing: it is away, too busy, or failed.
        """
        try:
            self.api.create(self.collection, document, dryRun="All", fieldValidation="Strict")
        except ApiError as error:
            if error.status not in (400, 422):
                raise
            return str(error)
        return ""

    def patch(self, name: str, spec: dict[str, Any]) -> str:
        """Change a run's spec; what the API server says if it refuses, else nothing."""
        try:
            self.api.merge(f"{self.collection}/{name}", {"spec": spec})
        except ApiError as error:
            return str(error)
        return ""


@contextmanager
def space(api: Api, name: str) -> Generator[Runs]:
    """A user's namespace, for a while."""
    path = f"/api/v1/namespaces/{name}"

    def is_gone() -> bool:
        try:
            api.get(path)
        except ApiError as error:
            return error.status == 404
        return False

    with suppress(ApiError):
        api.delete(path)  # of a test that was interrupted
    eventually("the end of an earlier namespace", is_gone, seconds=600)
    metadata = {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    try:
        yield Runs(api, name)
    finally:
        api.delete(path)
