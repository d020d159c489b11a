"""Matchable attributes: what platform teams set for a project, a domain of it or a workflow, and how services read it.

A service that applies attributes requests those of a scope together with the project, in one service request, each
time: a change takes effect at once. A MatchableAttributesConfiguration without attributes is a scope: project, domain,
workflow and launch plan, "" where it has none.
"""

from collections.abc import Mapping
from typing import Any

from flyteidl.admin.matchable_resource_pb2 import (
    CLUSTER_ASSIGNMENT,
    CLUSTER_RESOURCE,
    EXECUTION_CLUSTER_LABEL,
    EXECUTION_QUEUE,
    PLUGIN_OVERRIDE,
    QUALITY_OF_SERVICE_SPECIFICATION,
    TASK_RESOURCE,
    WORKFLOW_EXECUTION_CONFIG,
    MatchableAttributesConfiguration,
    MatchableResource,
    MatchingAttributes,
)
from flyteidl.admin.project_pb2 import Project
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass

from services.kit.messaging.messages import Announcement, ServiceRequest

KINDS: Mapping[str, MatchableResource] = {
    "task_resource_attributes": TASK_RESOURCE,
    "cluster_resource_attributes": CLUSTER_RESOURCE,
    "execution_queue_attributes": EXECUTION_QUEUE,
    "execution_cluster_label": EXECUTION_CLUSTER_LABEL,
    "quality_of_service": QUALITY_OF_SERVICE_SPECIFICATION,
    "plugin_overrides": PLUGIN_OVERRIDE,
    "workflow_execution_config": WORKFLOW_EXECUTION_CONFIG,
    "cluster_assignment": CLUSTER_ASSIGNMENT,
}
"""The kind of each member of MatchingAttributes (projects.md#kinds-of-attributes)."""


def kind_of(attributes: MatchingAttributes) -> MatchableResource | None:
    """Return the kind of `attributes`, which is that of the member that is set; None when none is set."""
    member = attributes.WhichOneof("target")
    return None if member is None else KINDS[member]


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
GET_PROJECT_AND_ATTRIBUTES: ServiceRequest[MatchableAttributesConfiguration, Any] = ServiceRequest(
    "ask.projects.get_project_and_attributes", MatchableAttributesConfiguration, ProjectAndAttributes
)
"""The project of a scope, and every stored attribute that matches the scope, of all kinds, most specific first.

The first one of a kind counts (projects.md#matching), except that execution configurations are merged. Each has the
scope where it was set. Raises NotFound as GET_PROJECT does.
"""

ATTRIBUTES_UPDATED = Announcement("flyte.projects.attributes.updated", MatchableAttributesConfiguration)
"""Attributes were set. Contains their scope and all of them as they are now."""

ATTRIBUTES_DELETED = Announcement("flyte.projects.attributes.deleted", MatchableAttributesConfiguration)
"""Attributes were deleted. Contains their scope and the attributes themselves, which determine the kind."""
