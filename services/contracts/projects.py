"""What the projects service answers and reports, and what every other service makes of it.

A project's state may change at any moment, so it is asked for each time it decides something and never kept. The
asking side is the same everywhere (check A of projects.md, section 9):

    try:
        project = await bus.ask(GET_PROJECT, ProjectGetRequest(id=identifier.project))
    except NotFound as missing:
        raise unregistered(identifier.project, identifier.domain, missing) from missing
    check_registered(project, identifier.domain)

Only NotFound is turned into the caller's mistake. Unavailable passes as it is: an unreachable projects service says
nothing about the project, and clients retry it.
"""

from flyteidl.admin.project_pb2 import InactiveProject, Project, ProjectGetRequest

from services.kit.errors import InvalidArgument, NotFound
from services.kit.messaging.messages import Announcement, ServiceRequest

# Questions stay outside `flyte.projects.>`: the stream of facts would take them in and acknowledge them as an answer.
GET_PROJECT = ServiceRequest("ask.projects.get_project", ProjectGetRequest, Project)
"""The project as GetProject answers it: archived ones too, with its state and every configured domain in order.

Raises NotFound `project [<id>] not found`, for an empty id as well.
"""

PROJECT_REGISTERED = Announcement("flyte.projects.project.registered", Project)
"""A project has come to be, by a call or by seeding. Carries it without its domains, which are configuration."""

PROJECT_UPDATED = Announcement("flyte.projects.project.updated", Project)
"""A project has changed, archiving included. Carries the whole of it after the change, again without its domains."""


def unregistered(project: str, domain: str, missing: NotFound) -> InvalidArgument:
    """Return what the caller is told when the answer to GET_PROJECT was `missing` (projects.md 9, check A, step 1)."""
    return InvalidArgument(
        f"failed to validate that project [{project}] and domain [{domain}] are registered, err: [{missing.message}]"
    )


def check_registered(project: Project, domain: str) -> None:
    """Check that `project` is active and `domain` is one of its domains (projects.md 9, check A, steps 2 and 3).

    Raises InvalidArgument. For a project that is not active it carries the detail InactiveProject, by which the
    scheduler knows a firing as done; without it the firing would be tried thirty times.
    """
    if project.state != Project.ACTIVE:
        raise InvalidArgument(f"project [{project.id}] is not active", InactiveProject(id=project.id))
    if all(configured.id != domain for configured in project.domains):
        raise InvalidArgument(f"domain [{domain}] is unrecognized by system")
