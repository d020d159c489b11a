"""The cache of launch plans: it is bounded by bytes, and large launch plans are not in it."""

import asyncio

from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.executions.launching.launched_entities import LaunchedEntities
from services.kit.rpc.cpu_pool import CpuPool

MOST_BYTES = 4 * 1024 * 1024
SMALL_BYTES, LARGE_BYTES = 60_000, 70_000


class Registry:
    """Responds with a launch plan of `size` bytes or a few more."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.requests = 0

    async def request_bytes(self, _contract: object, request: ObjectGetRequest) -> bytes:
        self.requests += 1
        plan = LaunchPlan(id=request.id)
        plan.spec.annotations.values["large"] = "x" * self.size
        return plan.SerializeToString()


def _entities(registry: Registry) -> LaunchedEntities:
    return LaunchedEntities(registry, CpuPool())  # type: ignore[arg-type]  # of the bus it uses this method alone


def _plan(name: str) -> Identifier:
    return Identifier(resource_type=ResourceType.LAUNCH_PLAN, name=name)


async def test_cache_of_launch_plans_is_bounded_by_bytes() -> None:
    entities = _entities(Registry(SMALL_BYTES))
    plans = [_plan(str(number)) for number in range(2 * MOST_BYTES // SMALL_BYTES)]
    for plan in plans:
        await entities.lease().entity(plan)
    cached = [entity for plan in plans if (entity := entities.cached(plan)) is not None]
    assert entities.cached(plans[-1]) is not None
    assert MOST_BYTES // 2 < sum(entity.launch_plan.ByteSize() for entity in cached) <= MOST_BYTES


async def test_cached_launch_plan_is_requested_once() -> None:
    registry = Registry(SMALL_BYTES)
    entities = _entities(registry)
    for _ in range(3):
        await entities.lease().entity(_plan("a"))
    assert registry.requests == 1


async def test_large_launch_plan_is_not_cached_and_launched_one_at_a_time() -> None:
    entities = _entities(Registry(LARGE_BYTES))
    first, second = entities.lease(), entities.lease()
    await first.entity(_plan("a"))
    assert first.is_large
    assert entities.cached(_plan("a")) is None
    waiting = asyncio.create_task(second.entity(_plan("b")))
    small = entities.lease()
    entities_of_others = asyncio.create_task(small.entity(_plan("c")))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert not entities_of_others.done()
    first.release()
    await waiting
    second.release()
    await entities_of_others
    small.release()
