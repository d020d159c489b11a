"""Checks of events without stored state, and their order."""

from contextlib import nullcontext

import pytest
from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent

from services.contracts.event_batches import MOST_RESOURCE_INDEX
from services.events.rules.checks import check_node_event, check_storable, check_task_event, check_workflow_event
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


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (task_event("RUNNING", retry_attempt=2**31), "retry_attempt"),
        (task_event("RUNNING", version=2**32 - 1), "phase_version"),
    ],
)
def test_a_number_that_no_column_can_store_is_refused_by_its_field(event: TaskExecutionEvent, field: str) -> None:
    """Executions would apply the whole batch event by event."""
    with pytest.raises(InvalidArgument, match=f"a value of the event cannot be stored: {field} is above 2147483647"):
        check_task_event(TaskExecutionEventRequest(event=event), LIMIT)


def test_a_parent_task_with_a_number_that_no_column_can_store_is_refused() -> None:
    event = node_event("RUNNING", parent_task_metadata={"id": {"retry_attempt": 2**31}})
    with pytest.raises(InvalidArgument, match=r"cannot be stored: parent_task_metadata\.id\.retry_attempt is above"):
        check_node_event(NodeExecutionEventRequest(event=event), LIMIT)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (workflow_event("RUNNING", name="\0"), "execution_id.name"),
        (workflow_event("QUEUED", producer_id="\0"), "producer_id"),
        (workflow_event("FAILED", error={"code": "\0"}), "error.code"),
        (node_event("RUNNING", node="\0"), "id.node_id"),
        (node_event("RUNNING", name="\0"), "id.execution_id.name"),
        (node_event("RUNNING", input_uri="\0"), "input_uri"),
        (node_event("FAILED", error={"code": "\0"}), "error.code"),
        (node_event("RUNNING", parent_node_metadata={"node_id": "\0"}), "parent_node_metadata.node_id"),
        (
            node_event("RUNNING", parent_task_metadata={"id": {"task_id": {"name": "\0"}}}),
            "parent_task_metadata.id.task_id.name",
        ),
        (
            node_event("RUNNING", workflow_node_metadata={"execution_id": {"name": "\0"}}),
            "workflow_node_metadata.execution_id.name",
        ),
        (task_event("RUNNING", node="\0"), "parent_node_execution_id.node_id"),
        (task_event("RUNNING", input_uri="\0"), "input_uri"),
    ],
)
def test_a_nul_in_a_text_column_is_refused_by_its_field(
    event: WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent, field: str
) -> None:
    assert 0 in event.SerializeToString()
    with pytest.raises(InvalidArgument) as raised:
        check_storable(event)
    assert raised.value.message == f"a value of the event cannot be stored: {field} has a NUL character"


def test_a_zero_byte_elsewhere_passes() -> None:
    event = task_event("RUNNING", reason="\0", metadata={})
    assert 0 in event.SerializeToString()
    check_storable(event)


def test_an_index_beyond_all_map_tasks_is_refused() -> None:
    for index, refused in ((MOST_RESOURCE_INDEX, False), (MOST_RESOURCE_INDEX + 1, True)):
        event = task_event("RUNNING", metadata={"external_resources": [{"index": index}]})
        with pytest.raises(InvalidArgument, match="invalid value for index") if refused else nullcontext():
            check_task_event(TaskExecutionEventRequest(event=event), LIMIT)


@pytest.mark.parametrize("field", ["retry_group", "spec_node_id"])
def test_a_long_text_of_a_node_is_refused(field: str) -> None:
    event = node_event("RUNNING", 10, **{field: "x" * 16_385})
    with pytest.raises(InvalidArgument, match=f"size of {field} exceeded length"):
        check_node_event(NodeExecutionEventRequest(event=event), LIMIT)
