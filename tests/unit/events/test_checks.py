"""Checks of events without stored state, and their order."""

import pytest
from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent

from services.events.rules.checks import check_node_event, check_task_event, check_workflow_event
from services.kit.errors import InvalidArgument, ResourceExhausted, ServiceError
from tests.support.event_makers import EXECUTION, TASK, VALUES, at, node_event, task_event, workflow_event

LIMIT = 5  # bytes; VALUES takes more
NODE = {"execution_id": EXECUTION, "node_id": "n0"}


def task(**fields: object) -> TaskExecutionEvent:
    complete = {"occurred_at": at(1), "parent_node_execution_id": NODE, "task_id": TASK} | fields
    return TaskExecutionEvent(**{name: value for name, value in complete.items() if value is not None})  # type: ignore[arg-type]  # fields by name


def test_complete_events_pass_the_checks() -> None:
    check_workflow_event(WorkflowExecutionEventRequest(event=workflow_event("RUNNING")), LIMIT)
    check_node_event(NodeExecutionEventRequest(event=node_event("RUNNING", None)), LIMIT)
    check_task_event(TaskExecutionEventRequest(event=task_event("RUNNING")), LIMIT)


@pytest.mark.parametrize(
    ("event", "error", "text"),
    [
        (None, InvalidArgument, "called without event"),
        (WorkflowExecutionEvent(output_data=VALUES), InvalidArgument, "doesn't have an execution id"),
        (workflow_event("SUCCEEDED", output_data=VALUES), ResourceExhausted, r"exceeds platform .* \(.* > 5\)"),
        (WorkflowExecutionEvent(execution_id={"project": "p", "domain": "d"}), InvalidArgument, "missing name"),
        (WorkflowExecutionEvent(execution_id=EXECUTION, phase=77), InvalidArgument, "phase"),  # type: ignore[arg-type]  # the wire allows any number
    ],
)
def test_a_bad_workflow_event_is_refused(
    event: WorkflowExecutionEvent | None, error: type[ServiceError], text: str
) -> None:
    with pytest.raises(error, match=text):
        check_workflow_event(WorkflowExecutionEventRequest(event=event), LIMIT)


@pytest.mark.parametrize(
    ("event", "error", "text"),
    [
        (None, InvalidArgument, "missing event"),
        (NodeExecutionEvent(), InvalidArgument, "missing id"),
        (NodeExecutionEvent(id={"node_id": "n"}), InvalidArgument, "missing execution_id"),
        (NodeExecutionEvent(id={"execution_id": EXECUTION}), InvalidArgument, "missing node_id"),
        (node_event("RUNNING", input_uri="u" * 16_385), InvalidArgument, "size of input_uri exceeded length 16384"),
        (node_event("SUCCEEDED", output_data=VALUES), ResourceExhausted, "exceeds platform configured threshold"),
    ],
)
def test_a_bad_node_event_is_refused(event: NodeExecutionEvent | None, error: type[ServiceError], text: str) -> None:
    with pytest.raises(error, match=text):
        check_node_event(NodeExecutionEventRequest(event=event), LIMIT)


@pytest.mark.parametrize(
    ("event", "error", "text"),
    [
        (None, InvalidArgument, "missing event"),
        (task(occurred_at=None, output_data=VALUES), InvalidArgument, "missing occurred_at"),
        (task(output_data=VALUES, parent_node_execution_id=None), ResourceExhausted, "exceeds platform"),
        (task(parent_node_execution_id=None), InvalidArgument, "missing node_execution_id"),
        (task(parent_node_execution_id={"node_id": "n"}), InvalidArgument, "missing execution_id"),
        (task(parent_node_execution_id={"execution_id": EXECUTION}), InvalidArgument, "missing node_id"),
        (task(task_id=None), InvalidArgument, "missing task_id"),
        (task(task_id=Identifier(resource_type=ResourceType.WORKFLOW)), InvalidArgument, "unexpected resource type"),
        (task(task_id=Identifier(resource_type=ResourceType.TASK)), InvalidArgument, "missing project"),
    ],
)
def test_a_bad_task_event_is_refused(event: TaskExecutionEvent | None, error: type[ServiceError], text: str) -> None:
    with pytest.raises(error, match=text):
        check_task_event(TaskExecutionEventRequest(event=event), LIMIT)


def test_a_refusal_for_large_outputs_is_not_taken_for_a_message_too_large_for_the_transport() -> None:
    """The engine would fail the user's node over it (events.md#reactions-of-the-engine)."""
    with pytest.raises(ResourceExhausted) as raised:
        check_node_event(NodeExecutionEventRequest(event=node_event("SUCCEEDED", output_data=VALUES)), LIMIT)
    assert "message larger than max" not in raised.value.message
