"""Checks of requests for names and their metadata (registry.md#named-entities)."""

from flyteidl.admin.common_pb2 import NamedEntityIdentifier, NamedEntityMetadata, NamedEntityState
from flyteidl.core.identifier_pb2 import ResourceType

from services.contracts.identifiers import GENERATED_PREFIX
from services.kit.errors import InvalidArgument
from services.registry.rules.lists import check_project_domain_given

# For lists of names without filters: they leave out what the registry generated to run single tasks.
DEFAULT_FILTERS = f"not_like(name,{GENERATED_PREFIX.rstrip('.')}%)"

MAX_DESCRIPTION_CHARACTERS = 300

_NAMED = frozenset({ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN})


def check_name(resource_type: ResourceType, name: NamedEntityIdentifier | None) -> None:
    """Raise InvalidArgument unless a resource type and a complete name are given."""
    check_type_given(resource_type)
    if name is None:
        raise InvalidArgument("missing id")
    check_project_domain_given(name.project, name.domain)
    if not name.name:
        raise InvalidArgument("missing name")


def check_type_given(resource_type: ResourceType) -> None:
    """Raise InvalidArgument unless a resource type is given."""
    if resource_type == ResourceType.UNSPECIFIED:
        raise InvalidArgument("invalid value for resource_type")


def check_has_metadata(resource_type: ResourceType) -> None:
    """Raise InvalidArgument, with the message of GetNamedEntity, unless this type has names."""
    if resource_type not in _NAMED:
        raise InvalidArgument(f"Cannot get NamedEntityMetadata for resource type: {_type_text(resource_type)}")


def check_listed(resource_type: ResourceType) -> None:
    """Raise InvalidArgument, with the message of ListNamedEntities, unless this type has names."""
    if resource_type not in _NAMED:
        raise InvalidArgument(f"Cannot list entity names for resource type: {_type_text(resource_type)}")


def check_metadata(resource_type: ResourceType, metadata: NamedEntityMetadata | None) -> None:
    """Raise InvalidArgument unless a name of this type may have this state and description."""
    if metadata is None:
        raise InvalidArgument("missing metadata")
    if metadata.state != NamedEntityState.NAMED_ENTITY_ACTIVE and resource_type not in _NAMED:
        raise InvalidArgument(f"Resource [{_type_text(resource_type)}] cannot have its state updated")
    if metadata.state not in NamedEntityState.values():
        raise InvalidArgument("invalid value for state")
    if len(metadata.description) > MAX_DESCRIPTION_CHARACTERS:
        raise InvalidArgument(f"description cannot exceed {MAX_DESCRIPTION_CHARACTERS} characters")


def _type_text(resource_type: ResourceType) -> str:
    known = ResourceType.DESCRIPTOR.values_by_number.get(resource_type)
    return known.name if known else str(resource_type)
