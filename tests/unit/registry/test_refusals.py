"""Errors about duplicates and missing entities.

See registry.md#registering-a-task-twice, registry.md#registering-a-workflow-twice and common.md#errors.
"""

import pytest
from flyteidl.admin.workflow_pb2 import CreateWorkflowFailureReason
from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.tasks_pb2 import Container, TaskTemplate
from google.protobuf.struct_pb2 import NULL_VALUE

from services.kit.errors import AlreadyExists, Code, InvalidArgument
from services.registry.rules.duplicates import (
    MAX_COMPARED_BYTES,
    MAX_LINES,
    TASK,
    different,
    different_workflow,
    identical,
    identical_workflow,
)
from services.registry.rules.errors import not_found

WORKFLOW = Identifier(resource_type=ResourceType.WORKFLOW, project="p", domain="d", name="n", version="v", org="o")


def compiled(*args: str) -> CompiledTask:
    return CompiledTask(template=TaskTemplate(type="python-task", container=Container(args=args)))


def test_identical_task_has_no_detail() -> None:
    error = identical(TASK)
    assert isinstance(error, AlreadyExists)
    assert error.message == "task with identical structure already exists"
    assert not error.details


def test_different_task_is_reported_with_a_diff() -> None:
    error = different(TASK, "n", compiled("a", "b"), compiled("a", "c"))
    assert isinstance(error, InvalidArgument)
    assert error.message == (
        "n task with different structure already exists. (Please register a new version of the task):\n"
        '/template/container/args/1:\n\t- "b" \n\t+ "c"'
    )


def test_absent_and_present_fields_have_different_texts() -> None:
    error = different(TASK, "n", compiled(), CompiledTask(template=TaskTemplate(type="python-task")))
    assert "/template/container:\n\t- {} \n\t+ nothing" in error.message


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("ab", "aXb", ['1:\n\t- nothing \n\t+ "X"']),
        ("aXb", "ab", ['1:\n\t- "X" \n\t+ nothing']),
        ("ab", "abX", ['2:\n\t- nothing \n\t+ "X"']),
        ("", "X", None),
        ("aXYb", "aZb", ['1:\n\t- "X" \n\t+ "Z"', '2:\n\t- "Y" \n\t+ nothing']),
        ("aXb", "aYb", ['1:\n\t- "X" \n\t+ "Y"']),
        ("aaa", "aa", ['0:\n\t- "a" \n\t+ nothing']),
    ],
)
def test_difference_of_lists_is_the_inserted_or_removed_items(before: str, after: str, lines: list[str] | None) -> None:
    message = different(TASK, "n", compiled(*before), compiled(*after)).message
    diff = message.partition(":\n")[2]
    if lines is None:
        assert diff == '/template/container/args:\n\t- nothing \n\t+ ["X"]'
    else:
        assert diff == "\n".join(f"/template/container/args/{line}" for line in lines)


def test_absent_value_and_null_have_different_texts() -> None:
    before, after = compiled("a"), compiled("a")
    after.template.custom.fields["k"].null_value = NULL_VALUE
    before.template.custom.SetInParent()
    assert different(TASK, "n", before, after).message.endswith("/template/custom/k:\n\t- nothing \n\t+ null")


def test_long_difference_is_cut() -> None:
    before = compiled(*(f"a{i}" for i in range(MAX_LINES + 5)))
    after = compiled(*(f"b{i}" for i in range(MAX_LINES + 5)))
    assert different(TASK, "n", before, after).message.endswith("... and 5 more")


def test_long_value_is_cut() -> None:
    assert len(different(TASK, "n", compiled("a" * 100_000), compiled("b")).message) < 1_000


def test_structure_without_json_form_is_compared_as_text() -> None:
    before, after = compiled("a"), compiled("a")
    after.template.custom.fields["rate"].number_value = float("nan")
    before.template.metadata.timeout.seconds = after.template.metadata.timeout.seconds = 10**15
    error = different(TASK, "n", before, after)
    assert error.code == Code.INVALID_ARGUMENT
    assert '+ "        number_value: nan"' in error.message


def test_workflow_errors_have_their_detail() -> None:
    (same,) = identical_workflow(WORKFLOW).details
    assert isinstance(same, CreateWorkflowFailureReason)
    assert same.exists_identical_structure.id == WORKFLOW
    (other,) = different_workflow(WORKFLOW, compiled("a"), compiled("b")).details
    assert isinstance(other, CreateWorkflowFailureReason)
    assert other.exists_different_structure.id == WORKFLOW


def test_missing_entity_is_named_by_its_key() -> None:
    assert not_found(ResourceType.WORKFLOW, WORKFLOW).message == (
        'missing entity of type WORKFLOW with identifier project:"p" domain:"d" name:"n" version:"v"'
    )


def test_structures_too_large_to_compare_are_reported_by_size() -> None:
    small, large = compiled("a"), compiled("a" * MAX_COMPARED_BYTES)
    text = f"{small.ByteSize()} bytes are registered, {large.ByteSize()} were sent; too many to tell the difference"
    assert different(TASK, "n", small, large).message.endswith(f":\n{text}")
