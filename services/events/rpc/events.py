"""CreateWorkflowEvent, CreateNodeEvent, CreateTaskEvent.

What can be decided from the event alone is checked here; everything else is the verdict of the executions service, for
which the call waits (events.md#waiting-for-the-result). The responses are empty messages.
"""

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)

from services.contracts.event_batches import Kind
from services.events.ingest.publisher import EventPublisher
from services.events.ingest.stall_detector import StallDetector
from services.events.rules.checks import check_node_event, check_storable, check_task_event, check_workflow_event
from services.kit.rpc.table import Call

_RECORDED = b""


class EventHandlers:
    """The RPCs by which engines report events."""

    def __init__(self, publisher: EventPublisher, stall_detector: StallDetector, max_output_bytes: int) -> None:
        self._publisher = publisher
        self._stall_detector = stall_detector
        self._max_output_bytes = max_output_bytes

    async def CreateWorkflowEvent(self, request: WorkflowExecutionEventRequest, _call: Call) -> bytes:
        """Record a phase of an execution; raise the errors of events.md#workflow-event-checks."""
        self._stall_detector.check()
        check_workflow_event(request, self._max_output_bytes)
        execution = request.event.execution_id
        body = request.SerializeToString()
        if 0 in body:
            check_storable(request.event)
        await self._publisher.record(execution, Kind.WORKFLOW, body)
        return _RECORDED

    async def CreateNodeEvent(self, request: NodeExecutionEventRequest, _call: Call) -> bytes:
        """Record a phase of a node; raise the errors of events.md#node-event-checks."""
        self._stall_detector.check()
        check_node_event(request, self._max_output_bytes)
        execution = request.event.id.execution_id
        body = request.SerializeToString()
        if 0 in body:
            check_storable(request.event)
        await self._publisher.record(execution, Kind.NODE, body)
        return _RECORDED

    async def CreateTaskEvent(self, request: TaskExecutionEventRequest, _call: Call) -> bytes:
        """Record a phase of a task attempt; raise the errors of events.md#task-event-checks."""
        self._stall_detector.check()
        check_task_event(request, self._max_output_bytes)
        execution = request.event.parent_node_execution_id.execution_id
        body = request.SerializeToString()
        if 0 in body:
            check_storable(request.event)
        await self._publisher.record(execution, Kind.TASK, body)
        return _RECORDED
