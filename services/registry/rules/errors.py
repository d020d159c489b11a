"""Errors of lookups of what is not registered (common.md#errors)."""

from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.identifiers import identifier_text
from services.kit.errors import NotFound


def not_found(resource_type: ResourceType, identifier: Identifier) -> NotFound:
    """Return the error of a lookup of a version."""
    key = Identifier(
        project=identifier.project, domain=identifier.domain, name=identifier.name, version=identifier.version
    )
    kind = ResourceType.Name(resource_type)
    return NotFound(f"missing entity of type {kind} with identifier {identifier_text(key)}")


def entry_not_found() -> NotFound:
    """Return the error of a lookup of a name or a description."""
    return NotFound("entry not found")
