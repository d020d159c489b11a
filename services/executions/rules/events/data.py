"""Inputs and results of nodes and task attempts, by reference or inline.

Rules: events.md#node-event-inputs, events.md#node-event-state, events.md#first-task-event, events.md#later-task-events.
"""

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent

from services.executions.rules.events.layout import INPUTS, OUTPUTS, ObjectLayout
from services.executions.rules.events.state import NodeKey, Offloads, TaskKey

NodeOrTaskKey = NodeKey | TaskKey
NodeOrTaskEvent = NodeExecutionEvent | TaskExecutionEvent

# What flytepropeller leaves of an error's message, and its mark for the rest. The size limit of entities leaves as much
# space in what clients receive: an event with an error is always taken, and its entity stays readable.
MOST_ERROR_BYTES = 100 * 1024
_CUT = "\n... <Message Truncated> ...\n"
# Of an error's code, URI and worker.
_MOST_ERROR_FIELD_BYTES = 4 * 1024


def input_uri(key: NodeOrTaskKey, event: NodeOrTaskEvent, layout: ObjectLayout, offloads: Offloads) -> str:
    """Return the URI of the inputs; inline ones are stored even when empty, unlike absent ones."""
    if event.HasField("input_data"):
        return offloads.add(_uri(key, layout, INPUTS), event.input_data.SerializeToString())
    return event.input_uri


def set_result(
    closure: NodeExecutionClosure | TaskExecutionClosure,
    key: NodeOrTaskKey,
    event: NodeOrTaskEvent,
    layout: ObjectLayout,
    offloads: Offloads,
) -> None:
    """Store the event's outputs or error in `closure`; outputs by reference take precedence over inline ones."""
    if event.output_uri:
        closure.output_uri = event.output_uri
    elif event.HasField("output_data"):
        if layout.inline_outputs:
            closure.output_data.CopyFrom(event.output_data)
        else:
            closure.output_uri = offloads.add(_uri(key, layout, OUTPUTS), event.output_data.SerializeToString())
    elif event.HasField("error"):
        set_error(closure, event.error)


def set_error(closure: ExecutionClosure | NodeExecutionClosure | TaskExecutionClosure, error: ExecutionError) -> None:
    """Store `error` in `closure`, its texts cut to what clients can receive (events.md#event-limits)."""
    closure.error.CopyFrom(error)
    if error.ByteSize() <= _MOST_ERROR_FIELD_BYTES:
        return
    stored = closure.error
    message = stored.message.encode(errors="replace")
    if len(message) > MOST_ERROR_BYTES:
        half = MOST_ERROR_BYTES // 2
        stored.message = _text(message[:half]) + _CUT + _text(message[-half:])
    for name in ("code", "error_uri", "worker"):
        value = getattr(stored, name).encode(errors="replace")
        if len(value) > _MOST_ERROR_FIELD_BYTES:
            setattr(stored, name, _text(value[:_MOST_ERROR_FIELD_BYTES]))


def _text(data: bytes) -> str:
    """Return text that may be cut within its first and last character."""
    return data.decode(errors="ignore")


def _uri(key: NodeOrTaskKey, layout: ObjectLayout, name: str) -> str:
    return layout.node_data(key, name) if isinstance(key, NodeKey) else layout.task_data(key, name)
