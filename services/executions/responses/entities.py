"""Executions, node executions and task executions as responses contain them, and pages of them."""

from collections.abc import Iterable, Iterator

from flyteidl.admin.execution_pb2 import Execution, ExecutionClosure, ExecutionSpec
from flyteidl.admin.matchable_resource_pb2 import ListMatchableAttributesResponse
from flyteidl.admin.node_execution_pb2 import NodeExecution, NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecution
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)

from services.executions.rules.events.external_resources import whole_closure
from services.executions.store.executions import StoredExecution
from services.executions.store.node_executions import StoredNodeExecution
from services.executions.store.task_executions import StoredTaskExecution
from services.kit.protobuf.wire import enum_field, length_delimited, message_field, string_field

# A page of failed executions would otherwise be mostly tracebacks.
LISTED_ERROR_BYTES = 100


def execution(project: str, domain: str, row: StoredExecution) -> bytes:
    """Return the serialized admin.Execution of `row`, whole (executions.md#getexecution)."""
    spec = _spec(row)
    if row.spec_inputs is not None:
        spec += message_field(ExecutionSpec.INPUTS_FIELD_NUMBER, row.spec_inputs)
    return _execution(execution_id(project, domain, row.name), spec, _closure(row, listed=False))


def listed_executions(project: str, domain: str, rows: Iterable[StoredExecution]) -> Iterator[bytes]:
    """Yield the serialized admin.Execution of each row for a list: without inputs, errors cut short."""
    project_domain = execution_id(project, domain, "")
    for row in rows:
        identifier = project_domain + string_field(WorkflowExecutionIdentifier.NAME_FIELD_NUMBER, row.name)
        yield _execution(identifier, _spec(row), _closure(row, listed=True))


def node_execution(execution: bytes, row: StoredNodeExecution, *, listed: bool) -> bytes:
    """Return the serialized admin.NodeExecution of `row`; lists cut its error short.

    Args:
        execution: The serialized WorkflowExecutionIdentifier.
        row: The stored node execution.
        listed: Whether the response is a list.
    """
    identifier = node_execution_id(row.node_id, execution)
    closure = row.closure
    if listed and row.failed:
        parsed = NodeExecutionClosure.FromString(closure)
        if parsed.HasField("error"):
            parsed.error.message = shorten_error(parsed.error.message)
            closure = parsed.SerializeToString()
    metadata = row.metadata
    if row.has_children or row.has_dynamic_children:
        parsed_metadata = NodeExecutionMetaData.FromString(metadata)
        parsed_metadata.is_parent_node |= row.has_children
        parsed_metadata.is_dynamic |= row.has_dynamic_children
        metadata = parsed_metadata.SerializeToString()
    return (
        message_field(NodeExecution.ID_FIELD_NUMBER, identifier)
        + string_field(NodeExecution.INPUT_URI_FIELD_NUMBER, row.input_uri)
        + message_field(NodeExecution.CLOSURE_FIELD_NUMBER, closure)
        + message_field(NodeExecution.METADATA_FIELD_NUMBER, metadata)
    )


def task_execution(node: bytes, row: StoredTaskExecution) -> bytes:
    """Return the serialized admin.TaskExecution of `row`; `node` is the serialized NodeExecutionIdentifier.

    Errors stay whole, in lists too (executions.md#listtaskexecutions).
    """
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
    """Return a serialized list response: `items` as the repeated field `field`, and the next page's token."""
    # In one step: a long page would else be copied for the token.
    return b"".join((*(message_field(field, item) for item in items), string_field(token_field, token)))


def execution_id(project: str, domain: str, name: str) -> bytes:
    """Return a serialized WorkflowExecutionIdentifier; its name is the last field."""
    return (
        string_field(WorkflowExecutionIdentifier.PROJECT_FIELD_NUMBER, project)
        + string_field(WorkflowExecutionIdentifier.DOMAIN_FIELD_NUMBER, domain)
        + string_field(WorkflowExecutionIdentifier.NAME_FIELD_NUMBER, name)
    )


def node_execution_id(node_id: str, execution: bytes) -> bytes:
    """Return a serialized NodeExecutionIdentifier; `execution` is the serialized WorkflowExecutionIdentifier."""
    return string_field(NodeExecutionIdentifier.NODE_ID_FIELD_NUMBER, node_id) + message_field(
        NodeExecutionIdentifier.EXECUTION_ID_FIELD_NUMBER, execution
    )


def shorten_error(message: str) -> str:
    """Return an error message as lists show it: LISTED_ERROR_BYTES at most, cut between two characters."""
    data = message.encode(errors="replace")
    return message if len(data) <= LISTED_ERROR_BYTES else data[:LISTED_ERROR_BYTES].decode(errors="ignore")


def _execution(identifier: bytes, spec: bytes, closure: bytes) -> bytes:
    return (
        message_field(Execution.ID_FIELD_NUMBER, identifier)
        + message_field(Execution.SPEC_FIELD_NUMBER, spec)
        + message_field(Execution.CLOSURE_FIELD_NUMBER, closure)
    )


def attribute_spec(attributes: bytes) -> ExecutionSpec:
    """Return the fields that acting attributes add to a spec (executions.md#stored-spec).

    Args:
        attributes: A serialized ListMatchableAttributesResponse.
    """
    spec = ExecutionSpec()
    for configuration in ListMatchableAttributesResponse.FromString(attributes).configurations:
        match configuration.attributes.WhichOneof("target"):
            case "quality_of_service":
                spec.quality_of_service.CopyFrom(configuration.attributes.quality_of_service)
            case "execution_cluster_label":
                spec.execution_cluster_label.CopyFrom(configuration.attributes.execution_cluster_label)
            case "cluster_assignment":
                spec.cluster_assignment.CopyFrom(configuration.attributes.cluster_assignment)
    return spec


def _spec(row: StoredExecution) -> bytes:
    """Return the spec with what acting attributes add; they act where it has no value."""
    if not row.attributes:
        return row.spec
    added = attribute_spec(row.attributes).SerializeToString()
    spec = row.spec + added
    fields = {number for number, _ in length_delimited(added)}
    if all(number not in fields for number, _ in length_delimited(row.spec)):
        return spec
    # The spec has an empty value there. Written twice, the field could not be written as JSON, nor the list around it.
    return ExecutionSpec.FromString(spec).SerializeToString()


def _closure(row: StoredExecution, *, listed: bool) -> bytes:
    if row.phase != "ABORTED" and not (listed and row.failed):
        return row.closure
    closure = ExecutionClosure.FromString(row.closure)
    if row.phase == "ABORTED" and not closure.HasField("abort_metadata"):
        # It replaces an error that came with the engine's last event (executions.md#getexecution).
        closure.abort_metadata.cause = row.abort_cause
    elif listed and closure.HasField("error"):
        closure.error.message = shorten_error(closure.error.message)
    return closure.SerializeToString()
