"""Checks of list requests that come before those of their filters (lists.md#version-lists)."""

from flyteidl.admin.common_pb2 import NamedEntityIdentifier

from services.kit.errors import InvalidArgument


def check_project_domain_given(project: str, domain: str) -> None:
    """Raise InvalidArgument unless both are given."""
    if not project:
        raise InvalidArgument("missing project")
    if not domain:
        raise InvalidArgument("missing domain")


def check_id_given(identifier: NamedEntityIdentifier | None) -> None:
    """Raise InvalidArgument unless the identifier names a project and a domain; a name is optional."""
    if identifier is None:
        raise InvalidArgument("missing id")
    check_project_domain_given(identifier.project, identifier.domain)


def check_project_or_domain_given(project: str, domain: str) -> None:
    """Raise InvalidArgument unless a project or a domain is given: ListLaunchPlanIds needs only one of them."""
    if not project and not domain:
        raise InvalidArgument("missing and/or invalid parameters: filters")
