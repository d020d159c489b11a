"""Keeps the cluster resources of all clusters in step with projects and attributes (engine.md#cluster-resources).

One replica at a time does it: the one that holds a lock of the database. A round over all project-domains when it gets
the lock, and then periodically, applies whatever is missing; announcements make the resources of a project that was
registered or changed due at once. An announcement is acknowledged before its project is applied: if the process dies in
between, the next replica begins with a round.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack

from services.contracts.projects import PROJECT_REGISTERED
from services.kit.db.session_lock import SessionLock, session_lock
from services.kit.errors import FailedPrecondition, ServiceError
from services.kit.kubernetes.client import KubernetesClient
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.pull_consumer import PullConsumer
from services.kit.process.service import cancel_all
from services.projects.config import Settings
from services.projects.jobs.cluster_applier import ClusterApplier
from services.projects.jobs.cluster_resource_source import ClusterResourceSource
from services.projects.rules.cluster_resources.announcements import changed_project

log = logging.getLogger(__name__)

DURABLE = "cluster-resources"
STREAM = announcements_of(PROJECT_REGISTERED.owner)
_LOCK_KEY = 0x636C7573746572
_MOST_FETCHED = 100
# How long a fetch waits for the next announcement; it returns as soon as there is one. A replica that lost the lock may
# still get one for so long, which is delivered to the next replica half a minute later.
_WAIT_SECONDS = 2.0
# Pause after a failure of NATS or the database.
_RETRY_SECONDS = 1.0


def open_appliers(settings: Settings, source: ClusterResourceSource, stack: AsyncExitStack) -> list[ClusterApplier]:
    """Return an applier for each enabled cluster; `stack` closes their connections.

    Raises:
        FailedPrecondition: The credentials of a cluster cannot be read.
    """
    appliers = []
    for cluster in settings.reachable_clusters:
        if cluster.enabled:
            try:
                client = KubernetesClient.open(cluster.reader(), cluster=cluster.id)
            except (OSError, ValueError) as error:
                raise FailedPrecondition(f"cluster {cluster.id!r} cannot be used: {error}") from error
            stack.push_async_callback(client.close)
            appliers.append(
                ClusterApplier(
                    cluster.id,
                    client,
                    source,
                    refresh_seconds=settings.cluster_resource_refresh_seconds,
                    again_seconds=settings.cluster_resource_reapply_seconds,
                )
            )
    return appliers


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
                await self._pass_on_announcements()
            except ServiceError as error:
                log.warning("changes of projects are seen in the next round: %s", error.message)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _pass_on_announcements(self) -> None:
        """Make the projects of waiting announcements due, or of the next one."""
        if self._announcements is None:
            await self._bus.declare_stream(STREAM)
            self._announcements = await self._bus.pull_consumer(STREAM, STREAM.subjects[0], DURABLE)
        fetched = await self._announcements.fetch(_MOST_FETCHED, _WAIT_SECONDS)
        for message in fetched:
            project = changed_project(message.subject, message.payload)
            if project is not None:
                for applier in self._appliers:
                    applier.changed(project, message.stored_at)
        await self._announcements.acknowledge(fetched)
