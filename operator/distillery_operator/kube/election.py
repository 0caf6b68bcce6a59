"""The election of the replica that leads: the one whose name stands in a Lease, as long as it renews it.

The official client's election gives up at the first connection error, and its Lease can't be created
(https://github.com/kubernetes-client/python, ``create_namespaced_lease(pretty=True)``); the rules are client-go's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

import aiohttp

from distillery_operator.kube.client import ApiError, KubeClient
from distillery_operator.model.objects import Manifest, ObjectRef

_log = logging.getLogger(__name__)


class LeadLost(Exception):
    """The loss of the lead: another replica leads, or the API server could not be reached in time."""


class Election:
    """One replica's part in the election.

    Clocks of replicas are not compared: a lease has run out when this replica saw no change of it for its duration.

    Args:
        kube: the API server.
        name: of the Lease.
        namespace: where it is.
        identity: the replica's name, unlike any other's.
        seconds: the lease's duration. It is renewed seven times in that, and given up after two thirds without.
    """

    def __init__(self, kube: KubeClient, name: str, namespace: str, identity: str, seconds: float) -> None:
        self._kube = kube
        self._reference = ObjectRef("coordination.k8s.io/v1", "Lease", namespace, name)
        self._identity = identity
        self._seconds = seconds
        self._period = seconds / 7.5
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = 0.0

    async def acquire(self) -> None:
        """Wait for the lead."""
        while not await self._try():  # noqa: ASYNC110 - no event reports that a lease has run out
            await asyncio.sleep(self._period)

    async def hold(self) -> None:
        """Renew the lease until that fails for too long. Raises :class:`LeadLost`."""
        while True:
            await asyncio.sleep(self._period)
            if not await self._try() and time.monotonic() - self._renewed > self._seconds * 2 / 3:
                raise LeadLost("the lease was not renewed in time")

    async def release(self) -> None:
        """Give up the lead immediately, for the other replicas. A failure only makes them wait."""
        try:
            async with asyncio.timeout(self._period):
                lease = await self._kube.get(self._reference)
                if lease and lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._kube.replace(lease)
        except Exception as error:
            _log.warning("the lease was not released: %s", error)

    async def _try(self) -> bool:
        """Take or renew the lease. Raises :class:`LeadLost` if another replica has taken it from this one."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds / 3):
                lease = await self._kube.get(self._reference)
                if lease is None:
                    taken = await self._kube.create(self._lease({}, 0))
                else:
                    taken = await self._take(lease)
        except ApiError as error:
            if error.status != 409:  # another one was faster
                _log.warning("the lease: %s", error)
            return False
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            _log.warning("the lease: %s", str(error) or "the API server does not answer")
            return False
        if taken:
            self._renewed = started
        return taken

    async def _take(self, lease: Manifest) -> bool:
        spec, version = lease["spec"], lease["metadata"]["resourceVersion"]
        holder = spec.get("holderIdentity")
        if holder != self._identity:
            if self._renewed:
                raise LeadLost(f"{holder or 'nobody'} leads")
            if version != self._seen[0]:
                self._seen = (version, time.monotonic())
            if holder and time.monotonic() - self._seen[1] < spec.get("leaseDurationSeconds", self._seconds):
                return False
        await self._kube.replace(self._lease(lease, spec.get("leaseTransitions", 0) + (holder != self._identity)))
        return True

    def _lease(self, former: Manifest, transitions: int) -> Manifest:
        """Return the lease of this replica, with the version of the former one: only one replica's write succeeds."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = former.get("spec", {})
        since = spec.get("acquireTime") if spec.get("holderIdentity") == self._identity else None
        return {
            "apiVersion": self._reference.api_version,
            "kind": self._reference.kind,
            "metadata": former.get("metadata")
            or {"name": self._reference.name, "namespace": self._reference.namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": round(self._seconds),
                "acquireTime": since or now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }
