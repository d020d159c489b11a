"""What every registration asks first: whether anything may be registered there, and what holds there.

Asked each time: archiving a project stops registration at once, and an attribute acts at once.
"""

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration, TaskResourceAttributes
from flyteidl.admin.project_pb2 import ProjectGetRequest
from flyteidl.core.identifier_pb2 import Identifier

from services.contracts.attributes import GET_PROJECT_AND_ATTRIBUTES
from services.contracts.projects import GET_PROJECT, check_registered, unregistered
from services.kit.errors import NotFound
from services.kit.messaging.bus import Bus


async def check_project_and_domain(bus: Bus, identifier: Identifier) -> None:
    """Raise InvalidArgument unless the project is active and has the domain (projects.md 9, check A).

    Raises Unavailable when nobody answers.
    """
    try:
        project = await bus.request(GET_PROJECT, ProjectGetRequest(id=identifier.project))
    except NotFound as missing:
        raise unregistered(identifier.project, identifier.domain, missing) from missing
    check_registered(project, identifier.domain)


async def task_resources(bus: Bus, identifier: Identifier) -> TaskResourceAttributes | None:
    """Do as `check_place`, and answer what attributes say there of tasks' resources (projects.md 12), if any do."""
    scope = MatchableAttributesConfiguration(project=identifier.project, domain=identifier.domain)
    try:
        place = await bus.request(GET_PROJECT_AND_ATTRIBUTES, scope)
    except NotFound as missing:
        raise unregistered(identifier.project, identifier.domain, missing) from missing
    check_registered(place.project, identifier.domain)
    set_there = (one.attributes for one in place.attributes if one.attributes.HasField("task_resource_attributes"))
    return next((attributes.task_resource_attributes for attributes in set_there), None)
