"""Checks of the project-domain of a registration, and the attributes that apply there.

They are requested for each registration: archiving a project and setting an attribute take effect at once.
"""

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration, TaskResourceAttributes
from flyteidl.admin.project_pb2 import ProjectGetRequest
from flyteidl.core.identifier_pb2 import Identifier

from services.contracts.projects import GET_PROJECT, GET_PROJECT_AND_ATTRIBUTES, check_active_with_domain, unregistered
from services.kit.errors import NotFound
from services.kit.messaging.bus import Bus


async def check_project_and_domain(bus: Bus, identifier: Identifier) -> None:
    """Check the project and domain of `identifier` (projects.md#check-of-a-project-domain).

    Raises:
        InvalidArgument: The project is not registered or not active, or does not have the domain.
        Unavailable: The projects service does not respond.
    """
    try:
        project = await bus.request(GET_PROJECT, ProjectGetRequest(id=identifier.project))
    except NotFound as error:
        raise unregistered(identifier.project, identifier.domain, error) from error
    check_active_with_domain(project, identifier.domain)


async def task_resources(bus: Bus, identifier: Identifier) -> TaskResourceAttributes | None:
    """Check as `check_project_and_domain` does, and return the attributes for resources of tasks there, if any.

    Their use is described in projects.md#use-of-attributes.
    """
    scope = MatchableAttributesConfiguration(project=identifier.project, domain=identifier.domain)
    try:
        response = await bus.request(GET_PROJECT_AND_ATTRIBUTES, scope)
    except NotFound as error:
        raise unregistered(identifier.project, identifier.domain, error) from error
    check_active_with_domain(response.project, identifier.domain)
    of_scope = (configuration.attributes for configuration in response.attributes)
    resources = (
        attributes.task_resource_attributes
        for attributes in of_scope
        if attributes.HasField("task_resource_attributes")
    )
    return next(resources, None)
