"""Answers put together from stored bytes; a message is parsed only where something in it must change.

executions.md 4.1, 5.1, 7.1, 7.2, 8.1 and 8.2.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from flyteidl.admin.execution_pb2 import Execution, ExecutionClosure, ExecutionSpec
from flyteidl.admin.node_execution_pb2 import NodeExecution, NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecution
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)

from services.executions.rules.attributes import shown
from services.executions.rules.events.external_resources import whole_closure
from services.kit.protobuf.wire import enum_field, message_field, string_field

# A page of failed executions would otherwise be mostly tracebacks.
LISTED_ERROR_BYTES = 100


class StoredExecution(NamedTuple):
    """An execution as its row holds it."""

    name: str
    phase: str
    spec: bytes
    spec_inputs: bytes | None
    closure: bytes
    abort_cause: str
    failed: bool  # the closure holds an error
    attributes: bytes = b""  # that act on it, which the spec does not tell


class StoredNodeExecution(NamedTuple):
    """A node execution as its row holds it; the two flags are filled for event version 0 only (7.1)."""

    node_id: str
    input_uri: str
    closure: bytes
    metadata: bytes
    failed: bool
    has_children: bool
    has_dynamic_children: bool


@dataclass(frozen=True)
class StoredTaskExecution:
    """A task execution as its row holds it."""

    project: str
    domain: str
    name: str
    version: str
    retry_attempt: int
    input_uri: str
    closure: bytes
    is_parent: bool
    resources: bytes | None = None  # external resources that are kept beside the closure


def execution(project: str, domain: str, row: StoredExecution) -> bytes:
    """Return the admin.Execution of `row`, whole."""
    spec = row.spec + _of_attributes(row)
    if row.spec_inputs is not None:
        spec += message_field(ExecutionSpec.INPUTS_FIELD_NUMBER, row.spec_inputs)
    return _execution(execution_id(project, domain, row.name), spec, _closure(row, listed=False))


def listed_executions(project: str, domain: str, rows: Iterable[StoredExecution]) -> Iterator[bytes]:
    """Yield the admin.Execution of each row as lists show it: no inputs, errors cut short."""
    place = execution_id(project, domain, "")
    for row in rows:
        identifier = place + string_field(WorkflowExecutionIdentifier.NAME_FIELD_NUMBER, row.name)
        yield _execution(identifier, row.spec + _of_attributes(row), _closure(row, listed=True))


def node_execution(execution: bytes, row: StoredNodeExecution, *, listed: bool) -> bytes:
    """Return the admin.NodeExecution of `row`; `execution` is the serialized execution id. Lists cut errors short."""
    identifier = node_execution_id(row.node_id, execution)
    closure = row.closure
    if listed and row.failed:
        parsed = NodeExecutionClosure.FromString(closure)
        if parsed.HasField("error"):
            parsed.error.message = cut(parsed.error.message)
            closure = parsed.SerializeToString()
    metadata = row.metadata
    if row.has_children:
        metadata += enum_field(NodeExecutionMetaData.IS_PARENT_NODE_FIELD_NUMBER, 1)
    if row.has_dynamic_children:
        metadata += enum_field(NodeExecutionMetaData.IS_DYNAMIC_FIELD_NUMBER, 1)
    return (
        message_field(NodeExecution.ID_FIELD_NUMBER, identifier)
        + string_field(NodeExecution.INPUT_URI_FIELD_NUMBER, row.input_uri)
        + message_field(NodeExecution.CLOSURE_FIELD_NUMBER, closure)
        + message_field(NodeExecution.METADATA_FIELD_NUMBER, metadata)
    )


def task_execution(node: bytes, row: StoredTaskExecution) -> bytes:
    """Return the admin.TaskExecution of `row`; `node` is the serialized node execution id. Errors stay whole."""
    task = (
        enum_field(Identifier.RESOURCE_TYPE_FIELD_NUMBER, ResourceType.TASK)
        + string_field(Identifier.PROJECT_FIELD_NUMBER, row.project)
        + string_field(Identifier.DOMAIN_FIELD_NUMBER, row.domain)
        + string_field(Identifier.NAME_FIELD_NUMBER, row.name)
        + string_field(Identifier.VERSION_FIELD_NUMBER, row.version)
    )
    identifier = (
        message_field(TaskExecutionIdentifier.TASK_ID_FIELD_NUMBER, task)
        + message_field(TaskExecutionIdentifier.NODE_EXECUTION_ID_FIELD_NUMBER, node)
        + enum_field(TaskExecutionIdentifier.RETRY_ATTEMPT_FIELD_NUMBER, row.retry_attempt)
    )
    return (
        message_field(TaskExecution.ID_FIELD_NUMBER, identifier)
        + string_field(TaskExecution.INPUT_URI_FIELD_NUMBER, row.input_uri)
        + message_field(TaskExecution.CLOSURE_FIELD_NUMBER, whole_closure(row.closure, row.resources))
        + enum_field(TaskExecution.IS_PARENT_FIELD_NUMBER, int(row.is_parent))
    )


def page(field: int, items: Iterable[bytes], token_field: int, token: str) -> bytes:
    """Return a list answer: `items` as the repeated field `field`, and the next page's token."""
    return b"".join(message_field(field, item) for item in items) + string_field(token_field, token)


def execution_id(project: str, domain: str, name: str) -> bytes:
    """Return a serialized WorkflowExecutionIdentifier; the name comes last."""
    return (
        string_field(WorkflowExecutionIdentifier.PROJECT_FIELD_NUMBER, project)
        + string_field(WorkflowExecutionIdentifier.DOMAIN_FIELD_NUMBER, domain)
        + string_field(WorkflowExecutionIdentifier.NAME_FIELD_NUMBER, name)
    )


def node_execution_id(node_id: str, execution: bytes) -> bytes:
    """Return a serialized NodeExecutionIdentifier; `execution` is the serialized id of its execution."""
    return string_field(NodeExecutionIdentifier.NODE_ID_FIELD_NUMBER, node_id) + message_field(
        NodeExecutionIdentifier.EXECUTION_ID_FIELD_NUMBER, execution
    )


def cut(message: str) -> str:
    """Cut an error message to what lists show, between two characters."""
    data = message.encode(errors="replace")
    return message if len(data) <= LISTED_ERROR_BYTES else data[:LISTED_ERROR_BYTES].decode(errors="ignore")


def _execution(identifier: bytes, spec: bytes, closure: bytes) -> bytes:
    return (
        message_field(Execution.ID_FIELD_NUMBER, identifier)
        + message_field(Execution.SPEC_FIELD_NUMBER, spec)
        + message_field(Execution.CLOSURE_FIELD_NUMBER, closure)
    )


def _of_attributes(row: StoredExecution) -> bytes:
    # They act only where the spec says nothing, so no field comes twice but one that is there and empty.
    return shown(row.attributes) if row.attributes else b""


def _closure(row: StoredExecution, *, listed: bool) -> bytes:
    if row.phase != "ABORTED" and not (listed and row.failed):
        return row.closure
    closure = ExecutionClosure.FromString(row.closure)
    if row.phase == "ABORTED" and not closure.HasField("abort_metadata"):
        # Takes the place of an error that came with the engine's last event (4.1).
        closure.abort_metadata.cause = row.abort_cause
    elif listed and closure.HasField("error"):
        closure.error.message = cut(closure.error.message)
    return closure.SerializeToString()
