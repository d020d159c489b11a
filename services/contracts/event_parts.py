"""How many parts an event may have (events.md#event-limits): the events service refuses more, and so does executions.

Parts are what the fold of an event costs. Those of inline inputs and outputs and of dynamic workflows do not count: a
fold stores them as they are, once.
"""

from collections.abc import Mapping
from typing import Any

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.literals_pb2 import LiteralMap
from google.protobuf.descriptor import Descriptor

from services.contracts.event_batches import Kind
from services.kit.errors import ResourceExhausted
from services.kit.protobuf.parts import count_parts

# An event of a map task with 10,000 subtasks has 10,000 external resources, with two logs each 30,000 parts; one
# with 100,000 that have no logs yet fits into 4 MiB.
MOST_EVENT_PARTS = 150_000
# A part has two bytes at least: an event of this size cannot have more.
_MOST_UNCOUNTED_BYTES = 2 * MOST_EVENT_PARTS

EventRequest = WorkflowExecutionEventRequest | NodeExecutionEventRequest | TaskExecutionEventRequest

REQUESTS: Mapping[Kind, type[EventRequest]] = {
    Kind.WORKFLOW: WorkflowExecutionEventRequest,
    Kind.NODE: NodeExecutionEventRequest,
    Kind.TASK: TaskExecutionEventRequest,
}
_OPAQUE: Any = (LiteralMap.DESCRIPTOR, CompiledWorkflowClosure.DESCRIPTOR)


def check_parts(request_type: Descriptor, body: bytes) -> None:
    """Raise ResourceExhausted if the serialized request `body` has too many parts.

    By its text the engine recognizes that a retry is useless
    (events.md#status-and-error-kind).

    Raises:
        ResourceExhausted: It has more than MOST_EVENT_PARTS.
        DecodeError: It is malformed.
    """
    if len(body) <= _MOST_UNCOUNTED_BYTES:
        return
    if count_parts(request_type, body, MOST_EVENT_PARTS, _OPAQUE) > MOST_EVENT_PARTS:
        raise ResourceExhausted(f"The event is a message larger than max (more than {MOST_EVENT_PARTS} parts)")
