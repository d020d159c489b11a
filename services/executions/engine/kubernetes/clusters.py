"""The clusters of the engine, and which of them can be reached now.

A cluster whose API server does not respond is unavailable until a probe succeeds. Calls to it fail at once meanwhile,
so that they do not delay those to other clusters.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Self

from prometheus_client import Gauge

from services.executions.config import Settings
from services.kit.errors import DeadlineExceeded, Internal, ServiceError, Unavailable
from services.kit.kubernetes.client import KubernetesClient
from services.kit.kubernetes.errors import Unreachable

log = logging.getLogger(__name__)

# Pause between two probes of a cluster that is unavailable.
_PROBE_SECONDS = 1.0
# The id of a single cluster in rows that flyteadmin wrote.
_LEGACY_ID = "id"

AVAILABLE = Gauge(
    "flyteplane_engine_cluster_available", "Whether the API server of a cluster responds: 1, or 0", ["cluster"]
)


class EngineCluster:
    """One cluster."""

    def __init__(self, name: str, client: KubernetesClient) -> None:
        self.name = name
        self.client = client
        self._available = asyncio.Event()
        self._reason = ""
        self._probing: asyncio.Task[None] | None = None
        self._set_available()

    async def close(self) -> None:
        """End probes and connections."""
        if self._probing is not None:
            self._probing.cancel()
        await self.client.close()

    async def wait(self) -> None:
        """Return when the cluster is available."""
        await self._available.wait()

    def check(self) -> None:
        """Raise Unavailable if the cluster is."""
        if not self._available.is_set():
            raise Unavailable(self._reason)

    @contextmanager
    def calling(self) -> Iterator[KubernetesClient]:
        """Lend the client for calls; if one of them gets no response, the cluster is unavailable.

        Raises:
            Unavailable: It is unavailable already.
        """
        self.check()
        try:
            yield self.client
        except (Unreachable, DeadlineExceeded) as error:
            self._set_unavailable(error)
            raise

    def _set_available(self) -> None:
        self._available.set()
        AVAILABLE.labels(self.name).set(1)

    def _set_unavailable(self, error: ServiceError) -> None:
        if self._available.is_set():
            log.warning("a cluster is unavailable", extra={"cluster": self.name, "cause": error.message})
            self._available.clear()
            self._reason = error.message
            AVAILABLE.labels(self.name).set(0)
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            with suppress(ServiceError):
                await self.client.check()
                log.info("a cluster is available again", extra={"cluster": self.name})
                self._set_available()
                return


class Clusters:
    """The configured clusters, by id; the id of a single one is ""."""

    def __init__(self, clusters: Mapping[str, EngineCluster]) -> None:
        self._clusters = clusters

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Return the clusters of the settings; raise OSError or ValueError if credentials cannot be read."""
        return cls(
            {
                cluster.id: EngineCluster(cluster.id, KubernetesClient.open(cluster.reader(), cluster=cluster.id))
                for cluster in settings.reachable_clusters
            }
        )

    async def close(self) -> None:
        """End probes and connections."""
        for cluster in self._clusters.values():
            await cluster.close()

    async def any_available(self) -> None:
        """Return when a cluster is available."""
        waits = [asyncio.create_task(cluster.wait()) for cluster in self._clusters.values()]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def get(self, cluster_id: str) -> EngineCluster:
        """Return the cluster of a stored id; raise Internal for one that is not configured (engine.md#clusters)."""
        if cluster := self._clusters.get(cluster_id):
            return cluster
        if "" not in self._clusters:
            raise Internal(f"invalid cluster target {cluster_id}")
        if cluster_id == _LEGACY_ID:
            return self._clusters[""]
        raise Internal(f"remote target {cluster_id} is not supported")

    def that_may_have(self, cluster_id: str) -> list[EngineCluster]:
        """Return the clusters in which an execution of this stored id may run: all for "", if they have ids.

        An execution has no id before it is submitted, and when it was submitted while there was a single cluster.
        """
        if not cluster_id and "" not in self._clusters:
            return list(self._clusters.values())
        return [self.get(cluster_id)]
