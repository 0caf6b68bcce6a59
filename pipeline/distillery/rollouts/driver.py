"""The driver of many episodes in flight: it leases, plays and finishes them until the queue is empty.

The queue is shared with other workers. A heartbeat renews the leases of a worker. Where that fails, another worker
plays the episode, and this worker's result is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from distillery.database.episode_queue import EpisodeQueue, Lease
from distillery.environments.pool import wire
from distillery.environments.pool.pool import EnvironmentFailure
from distillery.episodes import Episode

_log = logging.getLogger(__name__)


_OBJECTS_BETWEEN_COLLECTIONS = 20_000
_FIRST_EPISODES = 8
"""The episodes after which the others are not tried if all of them broke: the environment is to blame."""


class AllEpisodesBroke(Exception):
    """A failure of every episode that finished, each in all of its attempts: more play would be wasted."""


def collect_garbage_seldom() -> None:
    """Collect garbage in cycles less often in this process, and no longer among the objects that exist already.

    Episodes in flight live on, and would be searched again and again for nothing. With Python's 700 objects between
    collections that takes a quarter of a worker's CPU time (benchmarks/driver.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)


@dataclass(frozen=True, slots=True)
class DriverLimits:
    """The limits of a driver.

    Attributes:
        concurrency: episodes in flight.
        lease_seconds: how long a lease lasts; it is renewed every third of that.
        max_attempts: attempts at an episode that the environment breaks.
    """

    concurrency: int
    lease_seconds: int
    max_attempts: int


class Driver:
    """A loop that plays the queue's episodes, many together.

    Args:
        queue: where episodes come from and go to.
        play: plays one.
        limits: of this driver.
        on_progress: called with (finished, all) every few seconds.
    """

    def __init__(
        self,
        queue: EpisodeQueue,
        play: Callable[[Lease], Awaitable[Episode]],
        limits: DriverLimits,
        *,
        on_progress: Callable[[int, int], Awaitable[None]],
    ) -> None:
        self._queue = queue
        self._play = play
        self._limits = limits
        self._on_progress = on_progress
        self._any_played = False
        """An episode of this worker came to its end."""
        self._playing: dict[asyncio.Task[None], Lease] = {}
        self._ended: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()

    async def run(self) -> None:
        """Play until every episode of the queue is finished, by this worker or another.

        Whatever ends it early (a server that fails for good, a cancellation), the leases are given back first.

        Raises:
            AllEpisodesBroke: the first episodes all broke, or every one did.
        """
        drive = asyncio.create_task(self._drive())
        helpers = [asyncio.create_task(self._heartbeat()), asyncio.create_task(self._report())]
        try:
            # a heartbeat that died would let every lease run out while all seems well
            done, _ = await asyncio.wait([drive, *helpers], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._refuse_if_all_broke(at_least=1)
            await self._on_progress(*await self._queue.counts())
        finally:
            for task in [drive, *helpers, *self._playing]:
                task.cancel()
            await asyncio.gather(drive, *helpers, *self._playing, return_exceptions=True)
            await self._queue.release()

    async def _drive(self) -> None:
        # Leasing costs a transaction, so episodes are leased in batches; near the end one by one.
        batch = max(1, self._limits.concurrency // 8)
        pause = min(5.0, self._limits.lease_seconds / 4)
        drained = False
        while True:
            free = self._limits.concurrency - len(self._playing)
            if free >= batch and not drained:
                leases = await self._queue.lease(free)
                drained = len(leases) < free
                for lease in leases:
                    task = asyncio.create_task(self._play_one(lease))
                    task.add_done_callback(self._ended.put_nowait)
                    self._playing[task] = lease
            if self._playing:
                done = await self._wait(pause if drained else None)
                for task in done:
                    del self._playing[task]
                    if not task.cancelled():
                        task.result()
                drained = drained and bool(done)
                continue
            await self._queue.fail_exhausted()
            finished, total = await self._queue.counts()
            if finished == total:
                return
            # others hold the rest: take over what they lose
            await asyncio.sleep(0 if not drained else pause)
            drained = False

    async def _wait(self, timeout: float | None) -> list[asyncio.Task[None]]:
        """Return the episodes that ended, at least one unless the time is up.

        ``asyncio.wait`` would touch every episode in flight for each that ends.
        """
        try:
            async with asyncio.timeout(timeout):  # asyncio.wait_for could swallow a cancellation
                ended = [await self._ended.get()]
        except TimeoutError:
            return []
        while not self._ended.empty():
            ended.append(self._ended.get_nowait())
        return ended

    async def _play_one(self, lease: Lease) -> None:
        try:
            episode = await self._play(lease)
        except EnvironmentFailure as failure:
            _log.warning("episode of task %s broke: %s", lease.task.id, failure)
            failure_text = wire.to_storable(str(failure))
            await self._queue.retry_later(lease, failure_text, max_attempts=self._limits.max_attempts)
            await self._refuse_if_none_was_played()
            return
        self._any_played = self._any_played or bool(episode.turns)
        if not await self._queue.finish(lease, episode):
            _log.warning("the lease on task %s was lost; its episode is not counted", lease.task.id)
        await self._refuse_if_none_was_played()

    async def _refuse_if_none_was_played(self) -> None:
        if not self._any_played:
            await self._refuse_if_all_broke(at_least=_FIRST_EPISODES)

    async def _refuse_if_all_broke(self, *, at_least: int) -> None:
        broken = await self._queue.all_broken()
        if broken and broken[0] >= at_least:
            number, error = broken
            raise AllEpisodesBroke(
                f"{number} of {number} episodes broke, most often: {error}. "
                "`distillery validate --play FILE` plays one task and shows what comes of it"
            )

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._limits.lease_seconds / 3)
            held = dict(self._playing)
            ours = await self._queue.renew(held.values())
            for task, lease in held.items():
                if lease.episode_id not in ours:
                    task.cancel()  # finished meanwhile, or somebody else plays it

    async def _report(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # progress is for show; it must not end the work
                await self._on_progress(*await self._queue.counts())
            await asyncio.sleep(2.0)
