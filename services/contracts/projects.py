"""Service requests and announcements of the projects service, and the check that other services base on them.

A project's state and the attributes that apply in it may change at any moment: request them for each decision and do
not cache them. Every requester does the same (projects.md#check-of-a-project-domain):

    try:
        project = await bus.request(GET_PROJECT, ProjectGetRequest(id=identifier.project))
    except NotFound as error:
        raise unregistered(identifier.project, identifier.domain, error) from error
    check_active_with_domain(project, identifier.domain)

Only NotFound becomes an error of the caller. Unavailable passes as it is: it does not depend on the project, and
clients retry it.

A MatchableAttributesConfiguration without attributes is an attribute scope: project, domain, workflow and launch plan,
"" where it has none.
"""

import re
from typing import Any

from flyteidl.admin.matchable_resource_pb2 import MatchableAttributesConfiguration
from flyteidl.admin.project_pb2 import InactiveProject, Project, ProjectGetRequest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass

from services.kit.errors import InvalidArgument, NotFound
from services.kit.messaging.messages import Announcement, ServiceRequest

_NAMESPACE_PLACEHOLDER = re.compile(r"\{\{\s*(project|domain)\s*\}\}")


def _project_and_attributes() -> Any:
    """Make the message class of the response: Flyte has none that holds a project and attributes."""
    file = FileDescriptorProto(
        name="flyteplane/projects.proto",
        package="flyteplane",
        syntax="proto3",
        dependency=[Project.DESCRIPTOR.file.name, MatchableAttributesConfiguration.DESCRIPTOR.file.name],
    )
    message = file.message_type.add(name="ProjectAndAttributes")
    field = FieldDescriptorProto
    message.field.add(
        name="project",
        number=1,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_OPTIONAL,
        type_name=f".{Project.DESCRIPTOR.full_name}",
    )
    message.field.add(
        name="attributes",
        number=2,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=f".{MatchableAttributesConfiguration.DESCRIPTOR.full_name}",
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("flyteplane.ProjectAndAttributes"))


ProjectAndAttributes: Any = _project_and_attributes()
"""`project`, as GET_PROJECT returns it, and `attributes`: MatchableAttributesConfiguration, most specific first."""

# Requests are sent outside `flyte.projects.>`: the stream of announcements would store them, and its acknowledgement
# would be taken for the response.
GET_PROJECT = ServiceRequest("ask.projects.get_project", ProjectGetRequest, Project)
"""The project as GetProject returns it: archived ones too, with its state and every configured domain in order.

The request raises NotFound `project [<id>] not found`, for an empty id as well.
"""

GET_PROJECT_AND_ATTRIBUTES: ServiceRequest[MatchableAttributesConfiguration, Any] = ServiceRequest(
    "ask.projects.get_project_and_attributes", MatchableAttributesConfiguration, ProjectAndAttributes
)
"""The project of a scope, and every stored attribute that matches the scope, of all kinds, most specific first.

The first one of a kind counts (projects.md#matching), except that execution configurations are merged. Each has the
scope where it was set. The request raises NotFound as GET_PROJECT does.
"""

PROJECT_REGISTERED = Announcement("flyte.projects.project.registered", Project)
"""A project was registered, by a call or by seeding. Contains it without its domains, which are configuration."""

PROJECT_UPDATED = Announcement("flyte.projects.project.updated", Project)
"""A project has changed, archiving included. Contains all of it after the change, again without its domains."""

ATTRIBUTES_UPDATED = Announcement("flyte.projects.attributes.updated", MatchableAttributesConfiguration)
"""Attributes were set. Contains their scope and all of them as they are now."""

ATTRIBUTES_DELETED = Announcement("flyte.projects.attributes.deleted", MatchableAttributesConfiguration)
"""Attributes were deleted. Contains their scope and the attributes themselves, which determine the kind."""


def unregistered(project: str, domain: str, missing: NotFound) -> InvalidArgument:
    """Return the error of a caller whose project was not found (projects.md#check-of-a-project-domain)."""
    return InvalidArgument(
        f"failed to validate that project [{project}] and domain [{domain}] are registered, err: [{missing.message}]"
    )


def check_active_with_domain(project: Project, domain: str) -> None:
    """Raise InvalidArgument unless `project` is active and has `domain` (projects.md#check-of-a-project-domain).

    For a project that is not active the error has the detail InactiveProject, by which flyteadmin's scheduler takes a
    firing as done; without it the scheduler would retry the firing thirty times.
    """
    if project.state != Project.ACTIVE:
        raise InvalidArgument(f"project [{project.id}] is not active", InactiveProject(id=project.id))
    if all(configured.id != domain for configured in project.domains):
        raise InvalidArgument(f"domain [{domain}] is unrecognized by system")


def namespace_of(template: str, project: str, domain: str) -> str:
    """Return the Kubernetes namespace of a project-domain, by the setting `namespace_template` (engine.md#namespaces).

    Its executions run there, and its cluster resources are there.
    """
    values = {"project": project, "domain": domain}
    return _NAMESPACE_PLACEHOLDER.sub(lambda match: values[match[1]], template)
