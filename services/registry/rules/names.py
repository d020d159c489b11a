"""What may be asked of a name, and set for it (registry.md section 9). Checks run in the order of the page."""

from flyteidl.admin.common_pb2 import NamedEntityIdentifier, NamedEntityMetadata, NamedEntityState
from flyteidl.core.identifier_pb2 import ResourceType

from services.contracts.identifiers import GENERATED_PREFIX
from services.kit.errors import InvalidArgument
from services.registry.rules.lists import check_place_given

# What a list of names leaves out when its request has no filters: what the registry made for running a single task.
UNLESS_FILTERED = f"not_like(name,{GENERATED_PREFIX.rstrip('.')}%)"

MAX_DESCRIPTION_CHARACTERS = 300

_NAMED = frozenset({ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN})


def check_name(resource_type: ResourceType, name: NamedEntityIdentifier | None) -> None:
    """Raise InvalidArgument unless a name of some type is given, whole."""
    check_type_given(resource_type)
    if name is None:
        raise InvalidArgument("missing id")
    check_place_given(name.project, name.domain)
    if not name.name:
        raise InvalidArgument("missing name")


def check_type_given(resource_type: ResourceType) -> None:
    """Raise InvalidArgument unless some type is given."""
    if resource_type == ResourceType.UNSPECIFIED:
        raise InvalidArgument("invalid value for resource_type")


def check_has_metadata(resource_type: ResourceType) -> None:
    """Raise InvalidArgument unless names of this type are kept."""
    if resource_type not in _NAMED:
        raise InvalidArgument(f"Cannot get NamedEntityMetadata for resource type: {_type_text(resource_type)}")


def check_listed(resource_type: ResourceType) -> None:
    """Raise InvalidArgument unless names of this type are kept, as a list says it."""
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
