"""Checks of lists of descriptions (registry.md#listdescriptionentities)."""

from flyteidl.core.identifier_pb2 import ResourceType

from services.kit.errors import InvalidArgument

_FILTERED = frozenset({ResourceType.TASK, ResourceType.WORKFLOW, ResourceType.LAUNCH_PLAN})


def check_filterable(resource_type: ResourceType) -> None:
    """Raise InvalidArgument unless descriptions of this type may be filtered."""
    if resource_type not in _FILTERED:
        raise InvalidArgument("unsupported entity ''")
