"""What a run's actions do outside of it: objects, tasks, children, signals, cache, the reference execution."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc
from flyteidl.admin.execution_pb2 import (
    ExecutionCreateRequest,
    ExecutionMetadata,
    ExecutionRecoverRequest,
    ExecutionSpec,
)
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from google.protobuf.message import DecodeError

from deploy.sandbox.engine.cache import TaskCache
from deploy.sandbox.engine.control_plane import ControlPlane
from deploy.sandbox.engine.graph.inputs import (
    CacheLookedUp,
    CacheStored,
    ChildFinished,
    LaunchPlansFetched,
    RecoveredLookedUp,
    SignalArrived,
)
from deploy.sandbox.engine.graph.interface import (
    CacheKey,
    FetchLaunchPlans,
    LookUpCache,
    LookUpRecovered,
    StartChild,
    StoreCache,
    TaskKey,
    WaitForSignal,
)
from services.contracts.engine import RunRequest
from services.kit.errors import ServiceError, Unavailable
from services.kit.objects.store import ObjectStore

# First and longest pause between two looks at a child execution or a signal.
_POLL_SECONDS = (0.2, 2.0)
_STORE_RETRY_SECONDS = 0.5
_ENDED = frozenset(
    (WorkflowExecution.SUCCEEDED, WorkflowExecution.FAILED, WorkflowExecution.ABORTED, WorkflowExecution.TIMED_OUT)
)
_RECOVERABLE = frozenset((NodeExecution.SUCCEEDED, NodeExecution.RECOVERED))


@dataclass(frozen=True)
class Effects:
    """The effects of one run's actions.

    Args:
        ended_here: returns an asyncio.Event that is set when an execution that this engine runs has ended.
    """

    request: RunRequest
    control_plane: ControlPlane
    objects: ObjectStore
    cache: TaskCache
    ended_here: Callable[[WorkflowExecutionIdentifier], asyncio.Event]

    async def store(self, uri: str, values: LiteralMap) -> None:
        """Write values; wait while the object store is down."""
        data = values.SerializeToString()
        while True:
            try:
                await self.objects.put(uri, data)
            except Unavailable:
                await asyncio.sleep(_STORE_RETRY_SECONDS)
            else:
                return

    async def create_child(self, start: StartChild) -> ChildFinished | None:
        """Create a child execution; return its end when it cannot be created."""
        parent = NodeExecutionIdentifier(execution_id=self.request.id, node_id=start.key.node_id)
        try:
            if start.recovers is not None:
                created = await self.control_plane.recover(_recover_request(start, parent))
            else:
                created = await self.control_plane.create(self._create_request(start, parent))
            # An earlier try may have created it. But the name is that of other nodes, too: "e", "n-0" and "e-n", "0".
            if not created and not await self._is_child(start.child, parent):
                return ChildFinished(start.key, WorkflowExecution.FAILED, error=_name_taken(start.child))
        except grpc.aio.AioRpcError as error:
            return ChildFinished(start.key, WorkflowExecution.FAILED, error=_launch_error(error))
        return None

    async def _is_child(self, child: WorkflowExecutionIdentifier, parent: NodeExecutionIdentifier) -> bool:
        found = (await self.control_plane.execution(child)).spec.metadata.parent_node_execution
        same_execution = owner_prefix(found.execution_id) == owner_prefix(parent.execution_id)
        return same_execution and found.node_id == parent.node_id

    async def child_end(self, start: StartChild) -> ChildFinished:
        """Wait for the end of a child execution."""
        pause, longest = _POLL_SECONDS
        ended = self.ended_here(start.child)
        while True:
            closure = (await self.control_plane.execution(start.child)).closure
            if closure.phase in _ENDED:
                break
            try:
                async with asyncio.timeout(pause):
                    await ended.wait()
                ended = asyncio.Event()  # it is reported once; from now on only polling helps
            except TimeoutError:
                pause = min(2 * pause, longest)
        if closure.phase == WorkflowExecution.SUCCEEDED:
            outputs = await self.control_plane.outputs(start.child)
            return ChildFinished(start.key, closure.phase, outputs=outputs)
        error = closure.error if closure.HasField("error") else None
        return ChildFinished(start.key, closure.phase, error=error)

    async def signal(self, wait: WaitForSignal) -> SignalArrived:
        """Create a signal and wait for its value."""
        pause, longest = _POLL_SECONDS
        while (value := await self.control_plane.signal(wait.signal, wait.type)) is None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
        return SignalArrived(wait.node_id, value)

    async def look_up_cache(self, look: LookUpCache) -> CacheLookedUp:
        """Look in the cache; with `serialize` until the outputs or the reservation are there."""
        try:
            if look.serialize:
                hit = await self.cache.look_up_or_reserve(look.cache_key, self._owner(look.key))
            else:
                hit = await self.cache.look_up(look.cache_key)
        except Unavailable:
            return CacheLookedUp(look.key, failed=True)
        return CacheLookedUp(look.key, hit.outputs, hit.metadata) if hit else CacheLookedUp(look.key)

    async def store_cache(self, store: StoreCache) -> CacheStored:
        """Store outputs in the cache, and release the reservation."""
        source = TaskExecutionIdentifier(
            task_id=store.cache_key.task,
            node_execution_id=NodeExecutionIdentifier(execution_id=self.request.id, node_id=store.key.node_id),
            retry_attempt=store.key.attempt,
        )
        try:
            metadata = await self.cache.store(store.cache_key, store.outputs, source)
        except Unavailable:
            return CacheStored(store.key)
        finally:
            self.cache.release(store.cache_key, self._owner(store.key))
        return CacheStored(store.key, metadata)

    async def recovered(self, look: LookUpRecovered) -> RecoveredLookedUp:
        """Return a node of the reference execution: its outputs, or what of an unfinished one can be used."""
        reference = self.request.spec.metadata.reference_execution
        identifier = NodeExecutionIdentifier(execution_id=reference, node_id=look.node_id)
        node = await self.control_plane.node(identifier)
        if node is None:
            return RecoveredLookedUp(look.node_id)
        closure = node.closure
        child = closure.workflow_node_metadata
        found = RecoveredLookedUp(
            look.node_id,
            phase=closure.phase,
            dynamic_job_spec_uri=closure.dynamic_job_spec_uri,
            child=child.executionId if child.HasField("executionId") else None,
            checkpoint_uri=closure.task_node_metadata.checkpoint_uri,
        )
        if closure.phase not in _RECOVERABLE:
            return replace(found, futures=await self._futures(closure.dynamic_job_spec_uri))
        data = await self.control_plane.node_data(identifier)
        dynamic = data.dynamic_workflow.compiled_workflow if data.HasField("dynamic_workflow") else None
        # Outputs that cannot be read are left out of the response; the node runs again then.
        outputs = data.full_outputs if data.HasField("full_outputs") else None
        return replace(found, outputs=outputs, dynamic_workflow=dynamic)

    async def _futures(self, uri: str) -> DynamicJobSpec | None:
        """Return what a dynamic task returned; None if it is no longer there."""
        if not uri:
            return None
        try:
            return DynamicJobSpec.FromString(await self.objects.get(uri))
        except (ServiceError, DecodeError):
            return None

    async def launch_plans(self, fetch: FetchLaunchPlans) -> LaunchPlansFetched:
        """Read launch plans."""
        return LaunchPlansFetched(fetch.node_id, await self.control_plane.launch_plans(fetch.launch_plans))

    def release(self, cache_key: CacheKey, key: TaskKey) -> None:
        """Release the reservation of a task."""
        self.cache.release(cache_key, self._owner(key))

    def _owner(self, key: TaskKey) -> str:
        # Not of an attempt: the next one has the reservation of the one before.
        return f"{owner_prefix(self.request.id)}{key.node_id}/{key.index}"

    def _create_request(self, start: StartChild, parent: NodeExecutionIdentifier) -> ExecutionCreateRequest:
        """Return the request for a child, which takes over its parent's configuration, as flytepropeller's."""
        spec = self.request.spec
        child = ExecutionSpec(
            launch_plan=start.launch_plan,
            metadata=ExecutionMetadata(
                mode=ExecutionMetadata.CHILD_WORKFLOW,
                nesting=spec.metadata.nesting + 1,
                principal=spec.metadata.principal,
                parent_node_execution=parent,
            ),
            max_parallelism=spec.max_parallelism,
            overwrite_cache=spec.overwrite_cache,
        )
        for name in ("labels", "annotations", "security_context", "raw_output_data_config", "interruptible", "envs"):
            if spec.HasField(name):
                getattr(child, name).CopyFrom(getattr(spec, name))
        return ExecutionCreateRequest(
            project=start.child.project,
            domain=start.child.domain,
            name=start.child.name,
            spec=child,
            inputs=start.inputs,
        )


def owner_prefix(execution: WorkflowExecutionIdentifier) -> str:
    """Return the beginning of the names by which a run's tasks hold reservations of the cache."""
    return f"{execution.project}/{execution.domain}/{execution.name}/"


def _recover_request(start: StartChild, parent: NodeExecutionIdentifier) -> ExecutionRecoverRequest:
    metadata = ExecutionMetadata(mode=ExecutionMetadata.RECOVERED, parent_node_execution=parent)
    return ExecutionRecoverRequest(id=start.recovers, name=start.child.name, metadata=metadata)


def _name_taken(child: WorkflowExecutionIdentifier) -> ExecutionError:
    message = f"the launch plan cannot be executed: {child.name}, the name of the child, is that of another execution"
    return ExecutionError(code="LaunchPlanFailed", message=message, kind=ExecutionError.USER)


def _launch_error(error: grpc.aio.AioRpcError) -> ExecutionError:
    """Return why a child could not be created: its user's fault if its inputs or launch plan are wrong."""
    by_user = error.code() in {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    return ExecutionError(
        code="LaunchPlanFailed" if by_user else "SystemError",
        message=f"the launch plan cannot be executed: {error.details()}",
        kind=ExecutionError.USER if by_user else ExecutionError.SYSTEM,
    )
