"""Identifiers (common.md#identifiers, common.md#execution-identifiers)."""

from typing import Any

import pytest
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)

from services.contracts.identifiers import (
    check_complete,
    check_execution_identifier,
    check_identifier,
    check_node_execution_identifier,
    check_task_execution_identifier,
    identifier_text,
)
from services.kit.errors import InvalidArgument

Fields = dict[str, Any]

TASK: Fields = {"resource_type": ResourceType.TASK, "project": "p", "domain": "d", "name": "n", "version": "v"}
EXECUTION: Fields = {"project": "p", "domain": "d", "name": "n"}
NODE: Fields = {"node_id": "n0", "execution_id": EXECUTION}


def without(fields: Fields, name: str) -> Fields:
    return {key: value for key, value in fields.items() if key != name}


def test_identifier_text_has_set_fields_without_the_type() -> None:
    assert identifier_text(Identifier(**TASK)) == 'project:"p" domain:"d" name:"n" version:"v"'
    assert identifier_text(Identifier(name='q"ä')) == 'name:"q\\"ä"'
    whole = TaskExecutionIdentifier(task_id=Identifier(name="t"), node_execution_id=NODE, retry_attempt=2)
    assert identifier_text(whole) == (
        'task_id:{name:"t"} node_execution_id:{node_id:"n0" execution_id:{project:"p" domain:"d" name:"n"}} '
        "retry_attempt:2"
    )


WRONG = [
    (None, "missing id"),
    (Identifier(), "unexpected resource type unspecified for identifier [], expected task instead"),
    (
        Identifier(**{**TASK, "resource_type": ResourceType.LAUNCH_PLAN}),
        (
            'unexpected resource type launch_plan for identifier [project:"p" domain:"d" name:"n" version:"v"], '
            "expected task instead"
        ),
    ),
    *((Identifier(**without(TASK, part)), f"missing {part}") for part in ("project", "domain", "name", "version")),
    *((Identifier(**{**TASK, part: "ä" * 128}), f"size of {part} exceeded length 255") for part in ("name", "version")),
]


@pytest.mark.parametrize(("identifier", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_first_error_is_reported(identifier: Identifier | None, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_identifier(identifier, ResourceType.TASK)
    assert refused.value.message == message


def test_unknown_resource_type_is_reported_by_number() -> None:
    message = Identifier(**without(TASK, "resource_type"))
    message.resource_type = 77  # type: ignore[assignment] # a number that no name is known for
    with pytest.raises(InvalidArgument, match="resource type 77 "):
        check_identifier(message, ResourceType.TASK)


def test_identifier_may_have_any_characters_and_the_generated_prefix() -> None:
    check_identifier(Identifier(**{**TASK, "name": "simple task/ä"}), ResourceType.TASK)
    check_identifier(Identifier(**{**TASK, "name": ".flytegen." + "n" * 255}), ResourceType.TASK)


def test_check_complete_ignores_the_type() -> None:
    check_complete(Identifier(**without(TASK, "resource_type")))
    with pytest.raises(InvalidArgument, match="missing version"):
        check_complete(Identifier(**without(TASK, "version")))
    with pytest.raises(InvalidArgument, match="missing id"):
        check_complete(None)


EXECUTIONS = [
    (None, "missing execution_id"),
    *(
        (WorkflowExecutionIdentifier(**without(EXECUTION, part)), f"missing {part}")
        for part in ("project", "domain", "name")
    ),
]


@pytest.mark.parametrize(("identifier", "message"), EXECUTIONS)
def test_incomplete_execution_identifier_is_refused(
    identifier: WorkflowExecutionIdentifier | None, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}$"):
        check_execution_identifier(identifier, "execution_id")


NODES = [
    (None, "missing id"),
    (NodeExecutionIdentifier(node_id="n"), "missing execution_id"),
    (NodeExecutionIdentifier(execution_id=EXECUTION), "missing node_id"),
    (NodeExecutionIdentifier(node_id="n", execution_id={"project": "p"}), "missing domain"),
]


@pytest.mark.parametrize(("identifier", "message"), NODES)
def test_incomplete_node_execution_identifier_is_refused(
    identifier: NodeExecutionIdentifier | None, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}$"):
        check_node_execution_identifier(identifier)


TASKS = [
    (None, "missing id"),
    (TaskExecutionIdentifier(task_id=TASK), "missing node_execution_id"),
    (TaskExecutionIdentifier(node_execution_id=NODE), "missing task_id"),
    (TaskExecutionIdentifier(node_execution_id=NODE, task_id=without(TASK, "name")), "missing name"),
    (
        TaskExecutionIdentifier(node_execution_id=NODE, task_id=without(TASK, "resource_type")),
        r"unexpected resource type unspecified .* expected task instead",
    ),
]


@pytest.mark.parametrize(("identifier", "message"), TASKS)
def test_incomplete_task_execution_identifier_is_refused(
    identifier: TaskExecutionIdentifier | None, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}$"):
        check_task_execution_identifier(identifier)


def test_complete_execution_identifiers_are_valid() -> None:
    check_execution_identifier(WorkflowExecutionIdentifier(**EXECUTION))
    check_node_execution_identifier(NodeExecutionIdentifier(**NODE))
    check_task_execution_identifier(TaskExecutionIdentifier(node_execution_id=NODE, task_id=TASK))
