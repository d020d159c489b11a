"""What a list request must name, before its filters are looked at (registry.md 4.9)."""

from flyteidl.admin.common_pb2 import NamedEntityIdentifier

from services.kit.errors import InvalidArgument


def check_place_given(project: str, domain: str) -> None:
    """Raise InvalidArgument unless both are given."""
    if not project:
        raise InvalidArgument("missing project")
    if not domain:
        raise InvalidArgument("missing domain")


def check_id_given(identifier: NamedEntityIdentifier | None) -> None:
    """Raise InvalidArgument unless the identifier names a project and a domain; a name is optional."""
    if identifier is None:
        raise InvalidArgument("missing id")
    check_place_given(identifier.project, identifier.domain)


def check_launch_plan_names(project: str, domain: str) -> None:
    """Raise InvalidArgument as ListLaunchPlanIds does, which asks for a project or a domain only."""
    if not project and not domain:
        raise InvalidArgument("missing and/or invalid parameters: filters")
