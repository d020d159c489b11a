"""Requests for the project of a registration, alone or with the attributes that apply in its project-domain.

They are sent for each registration: archiving a project and setting an attribute take effect at once. The caller checks
the project with `check_active_with_domain`.
"""

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration
from flyteidl.admin.project_pb2 import Project, ProjectGetRequest
from flyteidl.core.identifier_pb2 import Identifier

from services.contracts.projects import (
    GET_PROJECT,
    GET_PROJECT_AND_ATTRIBUTES,
    ProjectAndAttributes,
    unregistered,
)
from services.kit.errors import NotFound
from services.kit.messaging.bus import Bus


async def request_project(bus: Bus, identifier: Identifier) -> Project:
    """Return the project of `identifier`, active or not.

    Raises:
        InvalidArgument: The project is not registered.
        Unavailable: The projects service does not respond.
    """
    try:
        return await bus.request(GET_PROJECT, ProjectGetRequest(id=identifier.project))
    except NotFound as error:
        raise unregistered(identifier.project, identifier.domain, error) from error


async def request_project_and_attributes(bus: Bus, identifier: Identifier) -> ProjectAndAttributes:
    """Return the project of `identifier`, and the attributes of its project-domain; raise as `request_project`."""
    scope = MatchableAttributesConfiguration(project=identifier.project, domain=identifier.domain)
    try:
        return await bus.request(GET_PROJECT_AND_ATTRIBUTES, scope)
    except NotFound as error:
        raise unregistered(identifier.project, identifier.domain, error) from error
