"""The parts of a serialized message are counted without parsing it."""

from typing import Any

import pytest
from flyteidl.admin.task_pb2 import TaskCreateRequest
from flyteidl.admin.workflow_pb2 import WorkflowCreateRequest
from google.protobuf.message import DecodeError, Message

from services.kit.protobuf.parts import count_parts
from services.kit.protobuf.readable import descriptor_of, map_value
from tests.support.entities import INTEGER, task_node, workflow

MANY = 1_000_000


def counted(message: Message) -> int:
    return count_parts(descriptor_of(message), message.SerializeToString(), MANY)


def walked(message: Message) -> int:
    """Count the parts of a parsed message."""
    count = 0
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            count += len(value)
            if map_value(field) is not None:
                count += sum(1 + walked(value[key]) for key in value)
        elif field.is_repeated:
            items: list[Any] = list(value)
            count += sum(1 + walked(item) if isinstance(item, Message) else 1 for item in items)
        elif isinstance(value, Message):
            count += 1 + walked(value)
    return count


def custom() -> TaskCreateRequest:
    request = TaskCreateRequest()
    request.spec.template.custom.update({"list": [1, "a", None, [{}]], "struct": {"a": {"b": True}}})
    request.spec.template.config["key"] = "value"
    request.spec.template.container.args.extend(["a", "", "b"])
    return request


def nodes() -> WorkflowCreateRequest:
    return workflow("w", {"x": INTEGER}, {}, [task_node(f"n{number}", "task") for number in range(20)], [])


@pytest.mark.parametrize("message", [TaskCreateRequest(), custom(), nodes()])
def test_every_message_entry_and_item_is_a_part(message: Message) -> None:
    assert counted(message) == walked(message)


def test_counting_ends_when_there_are_too_many() -> None:
    payload = b"\x12\x04" + b"\x12\x00" * 2  # WorkflowSpec with two sub-workflows
    assert count_parts(descriptor_of(WorkflowCreateRequest), payload, MANY) == 3
    assert count_parts(descriptor_of(WorkflowCreateRequest), payload, 2) > 2


def test_malformed_message_is_reported() -> None:
    with pytest.raises(DecodeError):
        count_parts(descriptor_of(WorkflowCreateRequest), b"\x12\x01\x12", MANY)
