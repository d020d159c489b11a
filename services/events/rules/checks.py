"""Checks of an event that need no stored state.

Incomplete ids are refused: flyteadmin looks them up all the same and finds an arbitrary row
(common.md#execution-identifiers).
"""

from collections.abc import Iterator

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import ResourceType
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent
from google.protobuf.message import Message

from services.contracts.event_batches import MOST_RESOURCE_INDEX
from services.contracts.identifiers import (
    check_execution_identifier,
    check_identifier,
    check_node_execution_identifier,
)
from services.kit.errors import InvalidArgument, ResourceExhausted

# Far more than object stores accept for a key.
_MOST_CHARACTERS = 16 * 1024
# What an integer column stores.
_MOST_INTEGER = 2**31 - 1
_WORKFLOW_PHASES = frozenset(WorkflowExecution.Phase.values())
_NODE_PHASES = frozenset(NodeExecution.Phase.values())
_TASK_PHASES = frozenset(TaskExecution.Phase.values())


def check_workflow_event(request: WorkflowExecutionEventRequest, max_output_bytes: int) -> None:
    """Raise InvalidArgument or ResourceExhausted for a bad event (events.md#workflow-event-checks)."""
    if not request.HasField("event"):
        raise InvalidArgument("Workflow event handler was called without event")
    if not request.event.HasField("execution_id"):
        raise InvalidArgument("Workflow event doesn't have an execution id")
    _check_sizes(request.event, max_output_bytes)
    check_execution_identifier(request.event.execution_id)
    _check_phase(request.event.phase, _WORKFLOW_PHASES)


def check_node_event(request: NodeExecutionEventRequest, max_output_bytes: int) -> None:
    """Raise InvalidArgument or ResourceExhausted for a bad event (events.md#node-event-checks).

    Ids of dynamic workflows are not checked: a refusal would fail the user's node.
    """
    if not request.HasField("event"):
        raise InvalidArgument("missing event")
    event = request.event
    check_node_execution_identifier(event.id if event.HasField("id") else None)
    _check_sizes(event, max_output_bytes)
    _check_lengths(event, "retry_group", "spec_node_id")
    if event.HasField("parent_task_metadata"):
        _check_integer("parent_task_metadata.id.retry_attempt", event.parent_task_metadata.id.retry_attempt)
    _check_phase(event.phase, _NODE_PHASES)


def check_task_event(request: TaskExecutionEventRequest, max_output_bytes: int) -> None:
    """Raise InvalidArgument or ResourceExhausted for a bad event (events.md#task-event-checks)."""
    if not request.HasField("event"):
        raise InvalidArgument("missing event")
    event = request.event
    if not event.HasField("occurred_at"):
        raise InvalidArgument("missing occurred_at")
    _check_sizes(event, max_output_bytes)
    parent = event.parent_node_execution_id if event.HasField("parent_node_execution_id") else None
    check_node_execution_identifier(parent, "node_execution_id")
    if not event.HasField("task_id"):
        raise InvalidArgument("missing task_id")
    check_identifier(event.task_id, ResourceType.TASK)
    _check_phase(event.phase, _TASK_PHASES)
    _check_integer("retry_attempt", event.retry_attempt)
    _check_integer("phase_version", event.phase_version)
    # One that is far from the others takes a row of its own, and a change of phase reads all rows.
    if event.HasField("metadata") and any(
        resource.index > MOST_RESOURCE_INDEX for resource in event.metadata.external_resources
    ):
        raise InvalidArgument(f"invalid value for index: an external resource has at most {MOST_RESOURCE_INDEX}")


def check_storable(event: WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent) -> None:
    """Raise InvalidArgument if a text column would have a NUL, which PostgreSQL does not store.

    Executions would notice only when the statement of the whole batch fails. Only needed if the serialized event has a
    zero byte.
    """
    for field, text in _column_texts(event):
        if "\0" in text:
            raise _not_storable(f"{field} has a NUL character")


def _not_storable(fault: str) -> InvalidArgument:
    return InvalidArgument(f"a value of the event cannot be stored: {fault}")


def _column_texts(event: WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent) -> Iterator[tuple[str, str]]:
    """Yield the texts of `event` that statements have as texts, by field; all others are within serialized messages."""
    if isinstance(event, WorkflowExecutionEvent):
        yield from _texts(event, "execution_id")
        yield "producer_id", event.producer_id
        yield "error.code", event.error.code
    elif isinstance(event, NodeExecutionEvent):
        yield from _texts(event, "id")
        yield from _texts(event.parent_task_metadata, "id", "parent_task_metadata.")
        yield from _texts(event.workflow_node_metadata, "execution_id", "workflow_node_metadata.")
        yield "parent_node_metadata.node_id", event.parent_node_metadata.node_id
        yield "input_uri", event.input_uri
        yield "error.code", event.error.code
    else:
        yield from _texts(event, "parent_node_execution_id")
        yield from _texts(event, "task_id")
        yield "input_uri", event.input_uri


def _texts(message: Message, field: str, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in the identifier that is `field` of `message`, by field; `path` is that of `message`."""
    for descriptor, value in getattr(message, field).ListFields():
        if isinstance(value, Message):
            yield from _texts(getattr(message, field), descriptor.name, f"{path}{field}.")
        elif isinstance(value, str):
            yield f"{path}{field}.{descriptor.name}", value


def _check_integer(field: str, number: int) -> None:
    if number > _MOST_INTEGER:
        raise _not_storable(f"{field} is above {_MOST_INTEGER}")


def _check_sizes(
    event: WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent, max_output_bytes: int
) -> None:
    # They become part of the entity, and lists return entities whole.
    if not isinstance(event, WorkflowExecutionEvent):
        _check_lengths(event, "input_uri")
    _check_lengths(event, "output_uri", "producer_id")
    size = event.output_data.ByteSize() if event.HasField("output_data") else 0
    if size > max_output_bytes:
        raise ResourceExhausted(f"Output data size exceeds platform configured threshold ({size} > {max_output_bytes})")


def _check_lengths(event: Message, *fields: str) -> None:
    for field in fields:
        if len(getattr(event, field)) > _MOST_CHARACTERS:
            raise InvalidArgument(f"size of {field} exceeded length {_MOST_CHARACTERS}")


def _check_phase(phase: int, known: frozenset[int]) -> None:
    # Enums are open in proto3: a newer engine's phase would be stored as a number that no client can read.
    if phase not in known:
        raise InvalidArgument("invalid value for phase")
