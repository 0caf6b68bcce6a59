"""The lead among replicas, on a named fake of the API server's Leases; tests/e2e kills leaders on a real one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from distillery_operator.kube.client import ApiError, KubeClient
from distillery_operator.kube.election import Election, LeadLost
from distillery_operator.model.objects import Manifest, ObjectRef

SECONDS = 0.6


class FakeLeases:
    """One Lease, with the API server's optimistic locking."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.away = False
        self._version = 0

    async def get(self, reference: ObjectRef) -> Manifest | None:
        self._reach()
        return None if self.lease is None else {**self.lease, "spec": dict(self.lease["spec"])}

    async def create(self, manifest: Manifest) -> bool:
        self._reach()
        if self.lease is not None:
            return False
        self._keep(manifest)
        return True

    async def replace(self, manifest: Manifest) -> Manifest:
        self._reach()
        assert self.lease is not None
        if manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        self._keep(manifest)
        return manifest

    def _reach(self) -> None:
        if self.away:
            raise ConnectionRefusedError("away")

    def _keep(self, manifest: Manifest) -> None:
        self._version += 1
        self.lease = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self._version)}}

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        return self.lease["spec"]


def replica(leases: FakeLeases, identity: str) -> Election:
    return Election(cast(KubeClient, leases), "distillery-operator", "system", identity, SECONDS)


async def test_second_replica_leads_when_the_lease_expired():
    leases = FakeLeases()
    await replica(leases, "a").acquire()
    other = asyncio.create_task(replica(leases, "b").acquire())
    await asyncio.sleep(SECONDS / 3)
    assert leases.spec["holderIdentity"] == "a"
    assert not other.done()
    leases.spec["leaseDurationSeconds"] = SECONDS  # the API knows whole seconds only
    await asyncio.wait_for(other, 60)
    assert leases.spec["holderIdentity"] == "b"
    assert leases.spec["leaseTransitions"] == 1


async def test_renewed_lease_is_not_taken():
    leases = FakeLeases()
    leader = replica(leases, "a")
    await leader.acquire()
    held = asyncio.create_task(leader.hold())
    other = asyncio.create_task(replica(leases, "b").acquire())
    for _ in range(10):
        await asyncio.sleep(SECONDS / 4)
        assert leases.spec["holderIdentity"] == "a"
    since = leases.spec["acquireTime"]
    assert leases.spec["renewTime"] > since
    held.cancel()
    other.cancel()


async def test_lead_is_lost_when_another_has_it():
    leases = FakeLeases()
    leader = replica(leases, "a")
    await leader.acquire()
    await leases.replace({**cast(Manifest, leases.lease), "spec": {**leases.spec, "holderIdentity": "b"}})
    with pytest.raises(LeadLost, match="b leads"):
        await asyncio.wait_for(leader.hold(), 60)


async def test_lead_is_lost_when_the_api_server_is_away_for_long():
    leases = FakeLeases()
    leader = replica(leases, "a")
    await leader.acquire()
    leases.away = True
    with pytest.raises(LeadLost, match="not renewed in time"):
        await asyncio.wait_for(leader.hold(), 60)


async def test_released_lease_is_taken_at_once():
    leases = FakeLeases()
    leader = replica(leases, "a")
    await leader.acquire()
    await leader.release()
    assert leases.spec["holderIdentity"] == ""
    assert await replica(leases, "b")._try()
    await leader.release()  # no longer its to give
    assert leases.spec["holderIdentity"] == "b"


async def test_one_replica_leads_when_two_try_together():
    leases = FakeLeases()
    await replica(leases, "a").acquire()
    await replica(leases, "a").release()
    taken = await asyncio.gather(*(replica(leases, name)._try() for name in "bcd"))
    assert taken.count(True) == 1
