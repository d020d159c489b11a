"""The calls of the engine `kubernetes`: create, delete and list FlyteWorkflow resources.

A call may be repeated, and two replicas may make it at the same time. The name of a resource is that of its execution,
so it is created once; one that exists is compared, as another control plane may have made it.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from services.contracts.engine import RunRequest
from services.executions.config import Settings
from services.executions.engine.kubernetes.clusters import Clusters, EngineCluster
from services.executions.engine.kubernetes.resources import ResourceBuilder
from services.executions.rules.flyteworkflow import choose_cluster, identity, is_same_execution
from services.executions.rules.flyteworkflow.encoding import Json
from services.executions.rules.placements import Placement
from services.kit.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    Internal,
    NotFound,
    OutOfRange,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from services.kit.kubernetes.errors import TooLarge, Unreachable
from services.kit.kubernetes.resource_types import ResourceType

log = logging.getLogger(__name__)

FLYTE_WORKFLOW = ResourceType("flyte.lyft.com", "v1alpha1", "flyteworkflows", "FlyteWorkflow")
FIELD_MANAGER = "flyteplane"
# Resources that flytepropeller has finished have this label, and are deleted within a day.
_UNFINISHED = "termination-status!=terminated"
# Operators can do something about these: renew credentials, create the namespace, install the definition.
_NOT_NOW = (Unauthenticated, NotFound, Aborted, OutOfRange, Unreachable)


class KubernetesEngine:
    """An engine of one or several clusters."""

    def __init__(self, clusters: Clusters, builder: ResourceBuilder, settings: Settings) -> None:
        self._clusters = clusters
        self._builder = builder
        # A single cluster without an id is none that could be chosen.
        self._enabled = {cluster.id: cluster.enabled for cluster in settings.reachable_clusters if cluster.id}
        self._weights = settings.cluster_weights
        self._default_label = settings.default_cluster_label

    async def available(self) -> None:
        """Return when a cluster is available."""
        await self._clusters.any_available()

    def choose_cluster(self, request: RunRequest) -> str:
        """Return the id of the cluster for an execution: by its label, the weights and its name."""
        return choose_cluster(
            request.id.name,
            request.spec.execution_cluster_label.value,
            clusters=self._enabled,
            weights=self._weights,
            default_label=self._default_label,
        )

    async def run(self, request: RunRequest) -> None:
        """Create the resource of an execution, unless it exists.

        Raises:
            Unavailable: The API server, the namespace or something that the resource is built from is not there yet.
            BuildFailed: The workflow cannot be run with these inputs.
            ServiceError: The API server refuses the resource.
        """
        cluster = self._clusters.get(request.cluster)
        cluster.check()  # nothing is built while it is unavailable
        resource = await self._builder.build(request)
        with _described("failed to create workflow in propeller"):
            try:
                await _create(cluster, request.namespace, resource.content)
            except TooLarge:
                smallest = resource.smallest()
                if smallest == resource.content:
                    raise
                log.info("a resource is too large and is offloaded", extra={"execution": request.id.name})
                await _create(cluster, request.namespace, smallest)

    async def stop(self, placement: Placement) -> bool:
        """Delete the resource of an execution; return False when no cluster that may have it does."""
        with _described("failed to terminate execution"):
            clusters = self._clusters.that_may_have(placement.cluster)
            return any([await _delete(cluster, placement) for cluster in clusters])

    async def missing(self, placements: Sequence[Placement]) -> list[Placement]:
        """Return the executions that no cluster has which may have them; clusters that do not respond may have any."""
        found: dict[tuple[str, str], set[str] | None] = {}
        missing = []
        for placement in placements:
            try:
                clusters = self._clusters.that_may_have(placement.cluster)
            except Internal:
                continue  # its events assigned it to a cluster that this control plane does not submit to
            for cluster in clusters:
                key = (cluster.name, placement.namespace)
                if key not in found:
                    found[key] = await _names(cluster, placement.namespace)
            lists = [found[cluster.name, placement.namespace] for cluster in clusters]
            if all(names is not None and placement.id.name not in names for names in lists):
                missing.append(placement)
        return missing


async def _create(cluster: EngineCluster, namespace: str, resource: Json) -> None:
    with cluster.calling() as client:
        try:
            content = json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode()
            await client.create(FLYTE_WORKFLOW, namespace, content, field_manager=FIELD_MANAGER)
        except AlreadyExists as error:
            existing = await client.get(FLYTE_WORKFLOW, namespace, resource["metadata"]["name"])
            if not is_same_execution(existing, resource):
                raise FailedPrecondition(f"{error.message}, for another execution") from error


async def _delete(cluster: EngineCluster, placement: Placement) -> bool:
    """Delete the resource of an execution from one cluster; return whether the cluster had it."""
    with cluster.calling() as client:
        name = placement.id.name
        try:
            existing = await client.get(FLYTE_WORKFLOW, placement.namespace, name)
            if not is_same_execution(existing, identity(placement.id, placement.accepted_at)):
                return False
            await client.delete(FLYTE_WORKFLOW, placement.namespace, name, uid=existing["metadata"]["uid"])
        except NotFound:
            return False
        return True


async def _names(cluster: EngineCluster, namespace: str) -> set[str] | None:
    """Return the names of the unfinished executions in a namespace; None if the cluster does not return them."""
    try:
        with cluster.calling() as client:
            return await client.names(FLYTE_WORKFLOW, namespace, labels=_UNFINISHED)
    except ServiceError as error:
        log.warning(
            "executions of a cluster cannot be listed",
            extra={"cluster": cluster.name, "namespace": namespace, "cause": error.message},
        )
        return None


@contextmanager
def _described(failure: str) -> Iterator[None]:
    """Say what failed in errors of API servers; those that time or an operator may repair become Unavailable."""
    try:
        yield
    except TooLarge as error:
        raise FailedPrecondition(f"{failure}: {error.message}") from error
    except _NOT_NOW as error:
        raise Unavailable(f"{failure}: {error.message}") from error
    except ServiceError as error:
        raise type(error)(f"{failure}: {error.message}", *error.details) from error
