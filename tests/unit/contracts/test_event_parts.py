"""The parts of an event: those of large map tasks and of inline values pass, millions of logs do not."""

import pytest
from flyteidl.admin.event_pb2 import NodeExecutionEventRequest, TaskExecutionEventRequest
from google.protobuf.message import Message

from services.contracts.event_batches import BatchedEvent, Kind
from services.contracts.event_parts import MOST_EVENT_PARTS, check_parts
from services.executions.rules.events.batch import read_event
from services.kit.errors import ResourceExhausted
from services.kit.protobuf.wire import message_field
from tests.support.event_makers import VALUES, node_event, task_event
from tests.support.external_resources import metadata_with, resource

LOG = message_field(6, b"")  # of a TaskExecutionEvent


def check(request: Message) -> None:
    check_parts(type(request).DESCRIPTOR, request.SerializeToString())  # type: ignore[arg-type]  # both types of descriptors


def test_an_event_of_a_large_map_task_passes() -> None:
    event = task_event("RUNNING", metadata=metadata_with(*map(resource, range(10_000))))
    for each in event.metadata.external_resources:
        each.logs.add(uri="a")
        each.logs.add(uri="b")
    check(TaskExecutionEventRequest(event=event))
    check(TaskExecutionEventRequest(event=task_event("QUEUED", metadata=metadata_with(*map(resource, range(100_000))))))


def test_parts_of_inline_inputs_do_not_count() -> None:
    event = node_event("RUNNING")
    event.input_data.MergeFromString(b"\x0a\x00" * (MOST_EVENT_PARTS + 1) + VALUES.SerializeToString())
    check(NodeExecutionEventRequest(event=event))


def test_an_event_with_too_many_parts_is_refused_also_from_a_batch() -> None:
    request = TaskExecutionEventRequest(event=task_event("SUCCEEDED")).SerializeToString()
    body = request + message_field(2, LOG * (MOST_EVENT_PARTS + 1))
    assert len(TaskExecutionEventRequest.FromString(body).event.logs) > MOST_EVENT_PARTS
    with pytest.raises(ResourceExhausted, match="message larger than max"):
        check_parts(TaskExecutionEventRequest.DESCRIPTOR, body)  # type: ignore[arg-type]  # both types of descriptors
    assert isinstance(read_event(BatchedEvent(Kind.TASK, body)), ResourceExhausted)
