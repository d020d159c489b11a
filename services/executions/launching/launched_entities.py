"""The launch plans that executions run, requested from the registry, with a cache of small ones.

A default value may make a launch plan as large as a request, and its literals take twenty times their bytes in memory.
So large ones are not cached, and only a few of them are in memory at a time.
"""

from cachetools import LRUCache
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.registry import GET_LAUNCH_PLAN, GET_TASK_LAUNCH_PLAN
from services.executions.rules.new_executions import LaunchedEntity
from services.kit.messaging.bus import Bus
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.fairness import FairSemaphore, current_client_connection

# Registered versions never change, so the registry's responses are cached. A usual launch plan has a few kilobytes, so
# this is a thousand of them. Parsed they take more: a cache full of plans with nothing but empty lists takes a hundred
# megabytes.
_CACHE_BYTES = 4 * 1024 * 1024
# Larger ones are requested for each launch.
_MOST_CACHED_BYTES = 64 * 1024
# Requests of launch plans that are not cached: their responses have 3.75 MiB at most.
_REQUESTS = 16
_REQUESTS_OF_CONNECTION = 8
# Launches of a large launch plan: each takes up to two hundred megabytes, with the inputs that it becomes.
_LARGE_LAUNCHES = 2


class LaunchedEntities:
    """The cache, and the slots of what is not in it."""

    def __init__(self, bus: Bus, cpu_pool: CpuPool) -> None:
        self._bus = bus
        self._cpu_pool = cpu_pool
        self._cache: LRUCache[bytes, LaunchedEntity] = LRUCache(_CACHE_BYTES, _size)
        self._requests = FairSemaphore(_REQUESTS, _REQUESTS_OF_CONNECTION)
        self._large = FairSemaphore(_LARGE_LAUNCHES, 1)

    def lease(self) -> "EntityLease":
        """Return a lease for the entity of one launch, which must be released."""
        return EntityLease(self)

    def cached(self, identifier: Identifier) -> LaunchedEntity | None:
        """Return the cached entity of `identifier`, if there is one."""
        return self._cache.get(_key(identifier))

    async def request(self, identifier: Identifier) -> tuple[LaunchedEntity, bool]:
        """Request an entity; return it, and whether it is large: it occupies a slot then, until `release_large`."""
        async with self._requests.slot(current_client_connection()):
            entity = self.cached(identifier)  # another launch may have requested it meanwhile
            if entity is not None:
                return entity, False
            content = await self._bus.request_bytes(
                GET_LAUNCH_PLAN if identifier.resource_type == ResourceType.LAUNCH_PLAN else GET_TASK_LAUNCH_PLAN,
                ObjectGetRequest(id=identifier),
            )
            if len(content) <= _MOST_CACHED_BYTES:
                entity = self._cache[_key(identifier)] = _entity(identifier, content)
                return entity, False
            await self._large.acquire(current_client_connection())
        try:
            return await self._cpu_pool.run(_entity, identifier, content), True
        except BaseException:
            self.release_large()
            raise

    def release_large(self) -> None:
        """Release the slot of a large entity."""
        self._large.release(current_client_connection())


class EntityLease:
    """The entity of one launch, requested once. While it is large, it occupies a slot."""

    def __init__(self, entities: LaunchedEntities) -> None:
        self._entities = entities
        self._entity: LaunchedEntity | None = None
        self.is_large = False

    async def entity(self, identifier: Identifier) -> LaunchedEntity:
        """Return the entity of `identifier`, the same for all calls; raise NotFound and others of the registry."""
        if self._entity is None:
            self._entity = self._entities.cached(identifier)
        if self._entity is None:
            self._entity, self.is_large = await self._entities.request(identifier)
        return self._entity

    def release(self) -> None:
        """End the lease."""
        if self.is_large:
            self._entities.release_large()


def _key(identifier: Identifier) -> bytes:
    return identifier.SerializeToString(deterministic=True)


def _size(entity: LaunchedEntity) -> int:
    return entity.launch_plan.ByteSize()


def _entity(identifier: Identifier, content: bytes) -> LaunchedEntity:
    launch_plan = LaunchPlan.FromString(content)
    if identifier.resource_type == ResourceType.LAUNCH_PLAN:
        return LaunchedEntity(launch_plan, launch_plan.spec.workflow_id)
    workflow = Identifier()
    workflow.CopyFrom(launch_plan.id)
    workflow.resource_type = ResourceType.WORKFLOW
    return LaunchedEntity(launch_plan, workflow, identifier)
