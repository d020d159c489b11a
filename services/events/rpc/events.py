"""CreateWorkflowEvent, CreateNodeEvent, CreateTaskEvent (events.md 2 to 4).

What can be told from the event alone is told here; everything else is the verdict of the executions service, which the
event's lane brings back. The answers are empty messages.
"""

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)

from services.contracts.event_batches import Kind
from services.events.ingest.publisher import EventPublisher
from services.events.ingest.stall_detector import StallDetector
from services.events.rules.checks import check_node_event, check_task_event, check_workflow_event
from services.kit.rpc.table import Call

_RECORDED = b""


class EventHandlers:
    """What the engine reports."""

    def __init__(self, lanes: EventPublisher, stall_detector: StallDetector, max_output_bytes: int) -> None:
        self._lanes = lanes
        self._stall_detector = stall_detector
        self._max_output_bytes = max_output_bytes

    async def CreateWorkflowEvent(self, request: WorkflowExecutionEventRequest, _call: Call) -> bytes:
        """Record a phase of an execution; raises the verdicts of events.md 2.1."""
        self._stall_detector.check()
        check_workflow_event(request, self._max_output_bytes)
        execution = request.event.execution_id
        await self._lanes.record(execution, Kind.WORKFLOW, request.SerializeToString())
        return _RECORDED

    async def CreateNodeEvent(self, request: NodeExecutionEventRequest, _call: Call) -> bytes:
        """Record a phase of a node; raises the verdicts of events.md 3.1."""
        self._stall_detector.check()
        check_node_event(request, self._max_output_bytes)
        execution = request.event.id.execution_id
        await self._lanes.record(execution, Kind.NODE, request.SerializeToString())
        return _RECORDED

    async def CreateTaskEvent(self, request: TaskExecutionEventRequest, _call: Call) -> bytes:
        """Record a phase of a task attempt; raises the verdicts of events.md 4.1."""
        self._stall_detector.check()
        check_task_event(request, self._max_output_bytes)
        execution = request.event.parent_node_execution_id.execution_id
        await self._lanes.record(execution, Kind.TASK, request.SerializeToString())
        return _RECORDED
