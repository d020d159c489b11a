"""Keeps the cluster resources of all clusters in step with projects and attributes (engine.md#cluster-resources).

One replica at a time does it: the one that holds a lock of the database. A round over all project-domains when it gets
the lock, and then periodically, applies whatever is missing; announcements make the resources of a project that was
registered or changed due at once. An announcement is acknowledged before its project is applied: if the process dies in
between, the next replica begins with a round.
"""

import asyncio
import logging
from collections.abc import Sequence

from services.contracts.projects import PROJECT_REGISTERED
from services.kit.db.session_lock import SessionLock, session_lock
from services.kit.errors import ServiceError
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.pull_consumer import PullConsumer
from services.kit.process.service import cancel_all
from services.projects.jobs.cluster_applier import ClusterApplier
from services.projects.rules.cluster_resources.announcements import changed_project

log = logging.getLogger(__name__)

DURABLE = "cluster-resources"
STREAM = announcements_of(PROJECT_REGISTERED.owner)
_LOCK_KEY = 0x636C7573746572
# Between two fetches of announcements: half of it is the average delay of a new project's resources.
_IDLE_SECONDS = 0.5
_MOST_FETCHED = 100
# Pause after a failure of NATS or the database.
_RETRY_SECONDS = 1.0


class ClusterResources:
    """The loop of one replica."""

    def __init__(self, database_url: str, bus: Bus, appliers: Sequence[ClusterApplier]) -> None:
        self._database_url = database_url
        self._bus = bus
        self._appliers = appliers
        self._announcements: PullConsumer | None = None

    async def run(self) -> None:
        """Keep the clusters in step whenever no other replica does, until cancelled."""
        while True:
            try:
                async with session_lock(self._database_url, _LOCK_KEY) as lock:
                    await self._work(lock)
            except ServiceError as error:
                log.warning("cluster resources wait for the database: %s", error.message)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _work(self, lock: SessionLock) -> None:
        """Apply resources until the lock is lost."""
        loops = (lock.until_lost(), self._follow_announcements(), *(applier.run() for applier in self._appliers))
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_all(tasks)
        for task in done:
            task.result()

    async def _follow_announcements(self) -> None:
        while True:
            try:
                if not await self._pass_on_announcements():
                    await asyncio.sleep(_IDLE_SECONDS)
            except ServiceError as error:
                log.warning("changes of projects are seen in the next round: %s", error.message)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _pass_on_announcements(self) -> int:
        """Make the projects of waiting announcements due, `_MOST_FETCHED` at most; return how many there were."""
        if self._announcements is None:
            await self._bus.declare_stream(STREAM)
            self._announcements = await self._bus.pull_consumer(STREAM, STREAM.subjects[0], DURABLE)
        fetched = await self._announcements.fetch(_MOST_FETCHED)
        for message in fetched:
            project = changed_project(message.subject, message.payload)
            if project is not None:
                for applier in self._appliers:
                    applier.changed(project, message.stored_at)
        await self._announcements.acknowledge(fetched)
        return len(fetched)
