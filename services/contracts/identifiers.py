"""Identifiers of everything Flyte names: their text in error messages, and whether they are complete.

A check takes None for an identifier that the request lacks: pass `request.id if request.HasField("id") else None`,
because protobuf returns an empty message for an absent one, and the two fail differently. The first failure wins.
"""

import json
from typing import TypeAlias

from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)

from services.kit.errors import InvalidArgument

# Of the letters and digits those that form no words and are not confused with one another
# (executions.md#execution-names).
NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

# Names of what the control plane itself registers to run a single task (registry.md#generated-entities).
GENERATED_PREFIX = ".flytegen."

# Nothing legitimate is longer, and PostgreSQL refuses index entries beyond some 2,700 bytes (common.md#identifiers).
MAX_FIELD_BYTES = 255

# Made once: `json.dumps` would make an encoder for every text, and the error of an event that repeats a phase has some.
_quoted = json.JSONEncoder(ensure_ascii=False).encode

IdentifierKey: TypeAlias = tuple[int, str, str, str, str, str]

AnyIdentifier = Identifier | WorkflowExecutionIdentifier | NodeExecutionIdentifier | TaskExecutionIdentifier


def key_of(identifier: Identifier) -> IdentifierKey:
    """Return the key by which identifiers are equal: all fields, type and organisation included."""
    return (
        identifier.resource_type,
        identifier.project,
        identifier.domain,
        identifier.name,
        identifier.version,
        identifier.org,
    )


def identifier_text(identifier: AnyIdentifier) -> str:
    """Write `identifier` for a message: `project:"p" domain:"d" name:"n" version:"v"`.

    Unset fields are left out. So is the resource type, which the messages name in words (common.md#errors).
    """
    parts = []
    for field, value in identifier.ListFields():
        if field.message_type is not None:
            parts.append(f"{field.name}:{{{identifier_text(value)}}}")
        elif isinstance(value, str):
            parts.append(f"{field.name}:{_quoted(value)}")
        elif field.enum_type is None:
            parts.append(f"{field.name}:{value}")
    return " ".join(parts)


def check_part(field: str, value: str, measured: str | None = None) -> None:
    """Raise InvalidArgument if `value`, which `field` names in the message, is empty or too long for an index.

    Args:
        field: The name of the part.
        value: Its value.
        measured: What of it is measured, if not all.
    """
    if not value:
        raise InvalidArgument(f"missing {field}")
    if len((value if measured is None else measured).encode()) > MAX_FIELD_BYTES:
        raise InvalidArgument(f"size of {field} exceeded length {MAX_FIELD_BYTES}")


def check_identifier(identifier: Identifier | None, expected: ResourceType) -> None:
    """Raise InvalidArgument unless `identifier` is there, of the `expected` type and complete (common.md#identifiers).

    Its parts may contain any characters; each may have 255 bytes of UTF-8.
    """
    if identifier is None:
        raise InvalidArgument("missing id")
    if identifier.resource_type != expected:
        raise InvalidArgument(
            f"unexpected resource type {_type_text(identifier.resource_type)} for identifier "
            f"[{identifier_text(identifier)}], expected {_type_text(expected)} instead"
        )
    check_complete(identifier)


def check_complete(identifier: Identifier | None) -> None:
    """Raise InvalidArgument unless `identifier` is there and complete, whatever its type.

    For the reads and updates where clients leave the type out (common.md#implied-resource-types).
    """
    if identifier is None:
        raise InvalidArgument("missing id")
    check_part("project", identifier.project)
    check_part("domain", identifier.domain)
    check_part("name", identifier.name, identifier.name.removeprefix(GENERATED_PREFIX))
    check_part("version", identifier.version)


def check_execution_identifier(identifier: WorkflowExecutionIdentifier | None, field: str = "id") -> None:
    """Raise InvalidArgument unless `identifier` is there and complete; `field` is its name in the message if absent."""
    if identifier is None:
        raise InvalidArgument(f"missing {field}")
    check_part("project", identifier.project)
    check_part("domain", identifier.domain)
    check_part("name", identifier.name)


def check_node_execution_identifier(identifier: NodeExecutionIdentifier | None, field: str = "id") -> None:
    """Raise InvalidArgument unless `identifier` is there and complete (common.md#node-execution-identifiers).

    Args:
        identifier: None when the request lacks it.
        field: Its name in the message if absent: `node_execution_id` where it is part of another identifier.
    """
    if identifier is None:
        raise InvalidArgument(f"missing {field}")
    if not identifier.HasField("execution_id"):
        raise InvalidArgument("missing execution_id")
    check_part("node_id", identifier.node_id)
    check_execution_identifier(identifier.execution_id)


def check_task_execution_identifier(identifier: TaskExecutionIdentifier | None) -> None:
    """Raise InvalidArgument unless `identifier` is there and complete (common.md#task-execution-identifiers).

    Callers that serve REST set an unspecified `task_id.resource_type` to TASK first.
    """
    if identifier is None:
        raise InvalidArgument("missing id")
    check_node_execution_identifier(
        identifier.node_execution_id if identifier.HasField("node_execution_id") else None, "node_execution_id"
    )
    if not identifier.HasField("task_id"):
        raise InvalidArgument("missing task_id")
    check_identifier(identifier.task_id, ResourceType.TASK)


def _type_text(resource_type: int) -> str:
    known = ResourceType.DESCRIPTOR.values_by_number.get(resource_type)
    return known.name.lower() if known else str(resource_type)
