"""The engine's calls to the gateway, as an ordinary client.

Calls are repeated as long as the control plane is unavailable: the sandbox runs it, so it comes back, and a run must
not fail because services are restarted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionCreateRequest,
    ExecutionRecoverRequest,
    ExecutionTerminateRequest,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.admin.node_execution_pb2 import (
    NodeExecution,
    NodeExecutionGetDataRequest,
    NodeExecutionGetDataResponse,
    NodeExecutionGetRequest,
)
from flyteidl.admin.signal_pb2 import SignalGetOrCreateRequest
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    SignalIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.signal_pb2_grpc import SignalServiceStub

from deploy.sandbox.engine.graph.interface import Event
from deploy.sandbox.engine.own_tokens import OwnTokens
from deploy.sandbox.engine.refusals import Refusal, refusal

# As flytekit's: compiled workflows of dynamic nodes and lists of external resources are large.
_MOST_BYTES = 20 * 1024 * 1024
_METADATA_BYTES = 32 * 1024
_CALL_SECONDS = 20.0
# Events of all runs that are sent at a time: those beyond it would wait in the gateway, and their time run out.
_MOST_EVENTS = 64
# First and longest pause while the control plane is unavailable.
_RETRY_SECONDS = (0.1, 2.0)

Response = TypeVar("Response")


def open_channel(target: str, token_key: str = "") -> grpc.aio.Channel:
    """Return a channel to the gateway at host:port; with a key its calls have tokens."""
    options = [
        ("grpc.max_receive_message_length", _MOST_BYTES),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        # After a restart of the gateway its address is tried again soon.
        ("grpc.max_reconnect_backoff_ms", int(_RETRY_SECONDS[1] * 1000)),
    ]
    interceptors: Any = [OwnTokens(token_key)] if token_key else None
    return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)


class ControlPlane:
    """Calls of one engine, on one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._admin = AdminServiceStub(channel)
        self._signals = SignalServiceStub(channel)
        self._sending = asyncio.Semaphore(_MOST_EVENTS)

    async def send(self, event: Event) -> None:
        """Send an event once; raise grpc.aio.AioRpcError."""
        async with self._sending:
            await self._send(event)

    async def _send(self, event: Event) -> None:
        if isinstance(event, WorkflowExecutionEvent):
            await self._admin.CreateWorkflowEvent(WorkflowExecutionEventRequest(event=event), timeout=_CALL_SECONDS)
        elif isinstance(event, NodeExecutionEvent):
            await self._admin.CreateNodeEvent(NodeExecutionEventRequest(event=event), timeout=_CALL_SECONDS)
        elif isinstance(event, TaskExecutionEvent):
            await self._admin.CreateTaskEvent(TaskExecutionEventRequest(event=event), timeout=_CALL_SECONDS)

    async def compiled_workflow(self, workflow: Identifier) -> CompiledWorkflowClosure:
        """Return the compiled workflow of a version."""
        found = await _call(self._admin.GetWorkflow, ObjectGetRequest(id=workflow))
        closure: CompiledWorkflowClosure = found.closure.compiled_workflow
        return closure

    async def execution(self, identifier: WorkflowExecutionIdentifier) -> Execution:
        """Return an execution."""
        return await _call(self._admin.GetExecution, WorkflowExecutionGetRequest(id=identifier))

    async def outputs(self, identifier: WorkflowExecutionIdentifier) -> LiteralMap:
        """Return the outputs of an execution."""
        data = await _call(self._admin.GetExecutionData, WorkflowExecutionGetDataRequest(id=identifier))
        outputs: LiteralMap = data.full_outputs
        return outputs

    async def create(self, request: ExecutionCreateRequest) -> bool:
        """Create an execution; return False if there is one of this name, such as from an earlier try."""
        return await _created(_call(self._admin.CreateExecution, request))

    async def recover(self, request: ExecutionRecoverRequest) -> bool:
        """Recover an execution under a new name; return False if there is one of this name."""
        return await _created(_call(self._admin.RecoverExecution, request))

    async def terminate(self, identifier: WorkflowExecutionIdentifier, cause: str) -> None:
        """Terminate an execution, unless it has ended."""
        request = ExecutionTerminateRequest(id=identifier, cause=cause)
        try:
            await _call(self._admin.TerminateExecution, request)
        except grpc.aio.AioRpcError as error:
            if refusal(error) not in {Refusal.ENDED, Refusal.NOT_FOUND}:
                raise

    async def signal(self, identifier: SignalIdentifier, kind: LiteralType) -> Literal | None:
        """Create a signal unless it is there; return its value, None before it has one."""
        found = await _call(self._signals.GetOrCreateSignal, SignalGetOrCreateRequest(id=identifier, type=kind))
        return found.value if found.HasField("value") else None

    async def launch_plans(self, identifiers: Sequence[Identifier]) -> list[LaunchPlan]:
        """Return those of the launch plans that exist."""
        found = await asyncio.gather(*map(self._launch_plan, identifiers))
        return [launch_plan for launch_plan in found if launch_plan is not None]

    async def _launch_plan(self, identifier: Identifier) -> LaunchPlan | None:
        return await _or_none(_call(self._admin.GetLaunchPlan, ObjectGetRequest(id=identifier)))

    async def node(self, identifier: NodeExecutionIdentifier) -> NodeExecution | None:
        """Return a node execution; None when there is none."""
        return await _or_none(_call(self._admin.GetNodeExecution, NodeExecutionGetRequest(id=identifier)))

    async def node_data(self, identifier: NodeExecutionIdentifier) -> NodeExecutionGetDataResponse:
        """Return inputs, outputs and the dynamic workflow of a node execution."""
        return await _call(self._admin.GetNodeExecutionData, NodeExecutionGetDataRequest(id=identifier))


async def _call(method: Callable[..., Awaitable[Response]], request: Any) -> Response:
    """Call until the control plane responds; raise the errors that are no lack of availability."""
    pause, longest = _RETRY_SECONDS
    while True:
        try:
            return await method(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if refusal(error) is not Refusal.NOT_NOW:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)


async def _created(call: Awaitable[object]) -> bool:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
        return False
    return True


async def _or_none(call: Awaitable[Response]) -> Response | None:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return None
