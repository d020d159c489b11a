"""Events and states for tests of the rules; times are seconds."""

from typing import Any

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.core.identifier_pb2 import Identifier, NodeExecutionIdentifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive, Scalar
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.contracts.event_batches import BatchedEvent, Kind
from services.executions.rules.events.layout import ObjectLayout
from services.executions.rules.events.state import ExecutionKey, ExecutionState, NodeKey, TaskKey

EXECUTION = WorkflowExecutionIdentifier(project="p", domain="d", name="e")
EXECUTION_KEY = ExecutionKey("p", "d", "e")
NODE_KEY = NodeKey(EXECUTION_KEY, "n0")
TASK = Identifier(resource_type=ResourceType.TASK, project="p", domain="d", name="t", version="v")
TASK_KEY = TaskKey(NODE_KEY, "p", "d", "t", "v", 0)
LAYOUT = ObjectLayout(lambda *parts: "/".join(("mem:/", *parts)))
INLINE = ObjectLayout(LAYOUT.uri, inline_outputs=True)
VALUES = LiteralMap(literals={"x": Literal(scalar=Scalar(primitive=Primitive(integer=7)))})


def at(seconds: float) -> Timestamp:
    whole = int(seconds // 1)
    return Timestamp(seconds=whole, nanos=round((seconds - whole) * 1e9))


def _when(seconds: float | None) -> Timestamp | None:
    return None if seconds is None else at(seconds)


def workflow_event(phase: str, when: float | None = 10, name: str = "e", **fields: Any) -> WorkflowExecutionEvent:
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name=name)
    return WorkflowExecutionEvent(execution_id=execution, phase=phase, occurred_at=_when(when), **fields)


def node_event(
    phase: str, when: float | None = 10, node: str = "n0", name: str = "e", **fields: Any
) -> NodeExecutionEvent:
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name=name)
    identifier = NodeExecutionIdentifier(execution_id=execution, node_id=node)
    return NodeExecutionEvent(id=identifier, phase=phase, occurred_at=_when(when), **fields)


def task_event(
    phase: str, when: float | None = 10, version: int = 0, node: str = "n0", name: str = "e", **fields: Any
) -> TaskExecutionEvent:
    execution = WorkflowExecutionIdentifier(project="p", domain="d", name=name)
    parent = NodeExecutionIdentifier(execution_id=execution, node_id=node)
    return TaskExecutionEvent(
        task_id=TASK,
        parent_node_execution_id=parent,
        phase=phase,
        phase_version=version,
        occurred_at=_when(when),
        **fields,
    )


def execution_state(phase: str = "UNDEFINED", cluster: str = "", **fields: Any) -> ExecutionState:
    return ExecutionState(EXECUTION_KEY, cluster, ExecutionClosure(phase=phase, **fields))


def batched(event: Message) -> BatchedEvent:
    if isinstance(event, WorkflowExecutionEvent):
        return BatchedEvent(Kind.WORKFLOW, WorkflowExecutionEventRequest(event=event).SerializeToString())
    if isinstance(event, NodeExecutionEvent):
        return BatchedEvent(Kind.NODE, NodeExecutionEventRequest(event=event).SerializeToString())
    assert isinstance(event, TaskExecutionEvent)
    return BatchedEvent(Kind.TASK, TaskExecutionEventRequest(event=event).SerializeToString())
