"""What a caller is told who asks for something that is not registered (registry.md section 2)."""

from flyteidl.core.identifier_pb2 import Identifier, ResourceType

from services.contracts.identifiers import identifier_text
from services.kit.errors import NotFound


def missing(resource_type: ResourceType, identifier: Identifier) -> NotFound:
    """Return the failure of a lookup by a full identifier."""
    key = Identifier(
        project=identifier.project, domain=identifier.domain, name=identifier.name, version=identifier.version
    )
    kind = ResourceType.Name(resource_type)
    return NotFound(f"missing entity of type {kind} with identifier {identifier_text(key)}")


def no_entry() -> NotFound:
    """Return the failure of a lookup of a name or a description."""
    return NotFound("entry not found")
