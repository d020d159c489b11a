"""Errors for rows that are missing and for names that are in use (common.md#errors)."""

from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier, WorkflowExecutionIdentifier

from services.contracts.identifiers import identifier_text
from services.kit.errors import AlreadyExists, NotFound

_ENTITIES = {
    WorkflowExecutionIdentifier: "execution",
    NodeExecutionIdentifier: "node execution",
    TaskExecutionIdentifier: "task execution",
}


def missing(identifier: WorkflowExecutionIdentifier | NodeExecutionIdentifier | TaskExecutionIdentifier) -> NotFound:
    """Return the error for a row that does not exist."""
    entity = _ENTITIES[type(identifier)]
    return NotFound(f"missing entity of type {entity} with identifier {identifier_text(identifier)}")


def name_in_use(identifier: WorkflowExecutionIdentifier) -> AlreadyExists:
    """Return the error for a name that is in use; clients take it for an earlier launch of theirs that succeeded."""
    return AlreadyExists(
        f"value with matching already exists (execution {identifier_text(identifier)} was launched before)"
    )
