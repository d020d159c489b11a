"""What every registration asks first: whether anything may be registered there."""

from flyteidl.admin.project_pb2 import ProjectGetRequest
from flyteidl.core.identifier_pb2 import Identifier

from services.contracts.projects import GET_PROJECT, check_registered, unregistered
from services.kit.bus import Bus
from services.kit.errors import NotFound


async def check_place(bus: Bus, identifier: Identifier) -> None:
    """Raise InvalidArgument unless the project is active and has the domain (projects.md 9, check A).

    Asked each time: archiving a project stops registration at once. Raises Unavailable when nobody answers.
    """
    try:
        project = await bus.ask(GET_PROJECT, ProjectGetRequest(id=identifier.project))
    except NotFound as missing:
        raise unregistered(identifier.project, identifier.domain, missing) from missing
    check_registered(project, identifier.domain)
