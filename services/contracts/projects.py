"""Service requests and announcements of the projects service, and the checks that other services base on them.

A project's state may change at any moment: request it for each decision and do not cache it. Every requester does the
same (projects.md#project-check-a):

    try:
        project = await bus.request(GET_PROJECT, ProjectGetRequest(id=identifier.project))
    except NotFound as error:
        raise unregistered(identifier.project, identifier.domain, error) from error
    check_registered(project, identifier.domain)

Only NotFound becomes an error of the caller. Unavailable passes as it is: it does not depend on the project, and
clients retry it.
"""

from flyteidl.admin.project_pb2 import InactiveProject, Project, ProjectGetRequest

from services.kit.errors import InvalidArgument, NotFound
from services.kit.messaging.messages import Announcement, ServiceRequest

# Requests are sent outside `flyte.projects.>`: the stream of announcements would store them, and its acknowledgement
# would be taken for the response.
GET_PROJECT = ServiceRequest("ask.projects.get_project", ProjectGetRequest, Project)
"""The project as GetProject returns it: archived ones too, with its state and every configured domain in order.

Raises NotFound `project [<id>] not found`, for an empty id as well.
"""

PROJECT_REGISTERED = Announcement("flyte.projects.project.registered", Project)
"""A project was registered, by a call or by seeding. Contains it without its domains, which are configuration."""

PROJECT_UPDATED = Announcement("flyte.projects.project.updated", Project)
"""A project has changed, archiving included. Contains all of it after the change, again without its domains."""


def unregistered(project: str, domain: str, missing: NotFound) -> InvalidArgument:
    """Return the error of a caller whose project GET_PROJECT did not find (projects.md#project-check-a)."""
    return InvalidArgument(
        f"failed to validate that project [{project}] and domain [{domain}] are registered, err: [{missing.message}]"
    )


def check_registered(project: Project, domain: str) -> None:
    """Raise InvalidArgument unless `project` is active and has `domain` (projects.md#project-check-a).

    For a project that is not active the error has the detail InactiveProject, by which the scheduler takes a firing as
    done; without it the scheduler would retry the firing thirty times.
    """
    if project.state != Project.ACTIVE:
        raise InvalidArgument(f"project [{project.id}] is not active", InactiveProject(id=project.id))
    if all(configured.id != domain for configured in project.domains):
        raise InvalidArgument(f"domain [{domain}] is unrecognized by system")
