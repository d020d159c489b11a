"""Compiled workflows as the engine runs them, with a cache of small ones.

Registered versions never change. What the engine changes in them (task resources, queues) is the same for most
executions of a workflow, and so is the JSON of a resource's members that describe it.
"""

import asyncio
from dataclasses import dataclass, field
from functools import cached_property

from cachetools import LRUCache
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.matchable_resource_pb2 import TaskResourceAttributes
from flyteidl.admin.workflow_pb2 import WorkflowClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier

from services.contracts.registry import LOCATE_WORKFLOW_CLOSURE
from services.contracts.task_resources import prepared
from services.executions.rules.flyteworkflow.encoding import Json
from services.executions.rules.flyteworkflow.resource import workflow_members
from services.kit.messaging.bus import Bus
from services.kit.objects.store import ObjectStore
from services.kit.rpc.cpu_pool import CpuPool

# Parsed, and as JSON, a workflow takes some thirty times its serialized bytes.
_CACHE_BYTES = 2 * 1024 * 1024
_MOST_CACHED_BYTES = 256 * 1024
# Workflows that are read at a time.
_READS = 4

Key = tuple[bytes, bytes, str]


@dataclass(frozen=True)
class RunnableWorkflow:
    """A compiled workflow with tasks as they are to run; `uri` is that of the registered closure, without changes."""

    uri: str
    closure: CompiledWorkflowClosure = field(repr=False)

    @cached_property
    def members(self) -> Json:
        """The members of a resource that contain it; raises BuildFailed. They must not be changed."""
        return workflow_members(self.closure)

    @property
    def unconverted_bytes(self) -> int:
        """Bytes of the closure that the next use of `members` converts; 0 after the first."""
        return 0 if "members" in vars(self) else self.closure.ByteSize()


class RunnableWorkflows:
    """Reads workflows from the registry and the object store."""

    def __init__(self, bus: Bus, objects: ObjectStore, cpu_pool: CpuPool) -> None:
        self._bus = bus
        self._objects = objects
        self._cpu_pool = cpu_pool
        self._cache: LRUCache[Key, RunnableWorkflow] = LRUCache(_CACHE_BYTES, _size)
        self._reads = asyncio.Semaphore(_READS)

    async def get(self, identifier: Identifier, platform: TaskResourceAttributes, queue: str) -> RunnableWorkflow:
        """Return a registered workflow with its tasks prepared by the platform's resources and `queue`.

        Raises:
            NotFound: The workflow, or the object with its closure, does not exist.
            Unavailable: The registry or the object store is unavailable.
        """
        key = (
            identifier.SerializeToString(deterministic=True),
            platform.SerializeToString(deterministic=True),
            queue,
        )
        if (workflow := self._cache.get(key)) is not None:
            return workflow
        async with self._reads:
            if (workflow := self._cache.get(key)) is not None:  # another execution may have needed it meanwhile
                return workflow
            located = await self._bus.request(LOCATE_WORKFLOW_CLOSURE, ObjectGetRequest(id=identifier))
            content = await self._objects.get(located.url)
            workflow = await self._cpu_pool.run_unless_small(
                len(content), _runnable, located.url, content, platform, queue
            )
            if len(content) <= _MOST_CACHED_BYTES:
                self._cache[key] = workflow
            return workflow


def _runnable(uri: str, content: bytes, platform: TaskResourceAttributes, queue: str) -> RunnableWorkflow:
    closure = WorkflowClosure.FromString(content).compiled_workflow
    for task in closure.tasks:
        task.template.CopyFrom(prepared(task.template, platform, queue))
    return RunnableWorkflow(uri, closure)


def _size(workflow: RunnableWorkflow) -> int:
    return workflow.closure.ByteSize()
