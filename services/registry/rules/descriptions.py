"""What may be asked of descriptions (registry.md section 10)."""

from flyteidl.core.identifier_pb2 import ResourceType

from services.kit.errors import InvalidArgument

_FILTERED = frozenset({ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN})


def check_filterable(resource_type: ResourceType) -> None:
    """Raise InvalidArgument unless it is known what filters of this type's descriptions may name (4.4)."""
    if resource_type not in _FILTERED:
        raise InvalidArgument("unsupported entity ''")
