"""Inputs and results of nodes and task attempts, by reference or inline.

Rules: events.md#node-event-inputs, events.md#node-event-state, events.md#first-task-event, events.md#later-task-events.
"""

from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent

from services.executions.rules.events.layout import INPUTS, OUTPUTS, ObjectLayout
from services.executions.rules.events.state import NodeKey, Offloads, TaskKey

NodeOrTaskKey = NodeKey | TaskKey
NodeOrTaskEvent = NodeExecutionEvent | TaskExecutionEvent


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
        closure.error.CopyFrom(event.error)


def _uri(key: NodeOrTaskKey, layout: ObjectLayout, name: str) -> str:
    return layout.node_data(key, name) if isinstance(key, NodeKey) else layout.task_data(key, name)
