"""Messages of events, with the fields that flytepropeller sets (engine.md#event-sequences)."""

from datetime import datetime, timedelta
from typing import Any, Final

from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, NodeExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.workflow_pb2 import Node
from flyteidl.event.event_pb2 import (
    EventReason,
    ExternalResourceInfo,
    NodeExecutionEvent,
    ParentNodeExecutionMetadata,
    TaskExecutionEvent,
    TaskExecutionMetadata,
    WorkflowExecutionEvent,
)
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.sandbox.engine.graph.node_ids import Parent, generated_name

PRODUCER: Final = "propeller"
PLUGIN: Final = "container"
_EVENT_VERSION: Final = 1
# What array nodes call their task (engine.md#map-tasks).
ARRAY_TYPE: Final = "container_array"
ARRAY_PLUGIN: Final = "k8s-array"
_MICROSECOND: Final = timedelta(microseconds=1)
_A_MILLISECOND: Final = 1_000  # in microseconds
_A_SECOND: Final = 1_000_000


def workflow_event(
    execution: WorkflowExecutionIdentifier,
    phase: WorkflowExecution.Phase,
    at: datetime,
    *,
    output_uri: str = "",
    error: ExecutionError | None = None,
) -> WorkflowExecutionEvent:
    """Return an event of the execution."""
    event = WorkflowExecutionEvent(
        execution_id=execution, producer_id=PRODUCER, phase=phase, occurred_at=timestamp(at), error=error
    )
    if output_uri:
        event.output_uri = output_uri
    return event


def node_event(
    identifier: NodeExecutionIdentifier,
    spec: Node,
    parent: Parent | None,
    phase: NodeExecution.Phase,
    at: datetime,
    **fields: Any,
) -> NodeExecutionEvent:
    """Return an event of a node.

    Args:
        identifier: Its unique id and execution.
        spec: Its template.
        parent: The node in which it runs; None at the top level.
        phase: Its new phase.
        at: The time.
        fields: Further fields of the event; those that are empty are left out.
    """
    event = NodeExecutionEvent(
        id=identifier,
        producer_id=PRODUCER,
        phase=phase,
        occurred_at=timestamp(at),
        reported_at=timestamp(at),
        spec_node_id=spec.id,
        node_name=spec.metadata.name,
        event_version=_EVENT_VERSION,
        **{name: value for name, value in fields.items() if value},
    )
    if parent is not None:
        event.parent_node_metadata.CopyFrom(ParentNodeExecutionMetadata(node_id=parent.node_id))
        event.retry_group = str(parent.attempt)
    return event


def node_aborted_event(identifier: NodeExecutionIdentifier, reason: str, at: datetime) -> NodeExecutionEvent:
    """Return the event of a node that was aborted; flytepropeller sends nothing else about it."""
    return NodeExecutionEvent(
        id=identifier,
        producer_id=PRODUCER,
        phase=NodeExecution.ABORTED,
        occurred_at=timestamp(at),
        reported_at=timestamp(at),
        error=ExecutionError(code="NodeAborted", message=reason),
    )


def task_event(
    node: NodeExecutionIdentifier,
    template: TaskTemplate,
    attempt: int,
    phase: TaskExecution.Phase,
    *,
    version: int,
    at: datetime,
    reason: str = "",
    interruptible: bool = False,
    **fields: Any,
) -> TaskExecutionEvent:
    """Return an event of an attempt of a task node."""
    instance_class = TaskExecutionMetadata.INTERRUPTIBLE if interruptible else TaskExecutionMetadata.DEFAULT
    return TaskExecutionEvent(
        task_id=template.id,
        parent_node_execution_id=node,
        retry_attempt=attempt,
        phase=phase,
        phase_version=version,
        producer_id=PRODUCER,
        occurred_at=timestamp(at),
        reported_at=timestamp(at),
        task_type=template.type,
        event_version=_EVENT_VERSION,
        reason=reason,
        reasons=[EventReason(reason=reason, occurred_at=timestamp(at))] if reason else [],
        metadata=TaskExecutionMetadata(
            generated_name=generated_name(node.execution_id.name, node.node_id, attempt),
            plugin_identifier=PLUGIN,
            instance_class=instance_class,
        ),
        **{name: value for name, value in fields.items() if value},
    )


def array_event(
    node: NodeExecutionIdentifier,
    task_id: Identifier,
    phase: TaskExecution.Phase,
    resources: list[ExternalResourceInfo],
    *,
    version: int,
    at: datetime,
    **fields: Any,
) -> TaskExecutionEvent:
    """Return an event of the one task execution of an array node, without producer and report time."""
    return TaskExecutionEvent(
        task_id=task_id,
        parent_node_execution_id=node,
        phase=phase,
        phase_version=version,
        occurred_at=timestamp(at),
        task_type=ARRAY_TYPE,
        event_version=_EVENT_VERSION,
        metadata=TaskExecutionMetadata(external_resources=resources, plugin_identifier=ARRAY_PLUGIN),
        **{name: value for name, value in fields.items() if value},
    )


def timestamp(at: datetime) -> Timestamp:
    """Return a time as a message."""
    message = Timestamp()
    message.FromDatetime(at)
    return message


def go_duration(duration: timedelta) -> str:
    """Write a duration as Go does: `1h0m0s`, `20m0s`, `1.5s`, `250ms`."""
    microseconds = duration // _MICROSECOND
    if 0 < microseconds < _A_SECOND:
        return f"{_number(microseconds, _A_MILLISECOND)}ms"
    seconds, part = divmod(microseconds, _A_SECOND)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{_number(seconds * _A_SECOND + part, _A_SECOND)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _number(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    return f"{whole}.{str(part).zfill(len(str(unit)) - 1).rstrip('0')}" if part else str(whole)
