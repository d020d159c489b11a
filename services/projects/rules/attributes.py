"""Matchable attributes: where they may be set and read, and what is stored (projects.md#attribute-checks).

Checks run in the order of the code; the first failure wins. Values are checked by `attribute_values`. A write or delete
at a scope never touches another scope. A read at a scope returns the row of the highest level that matches it
(projects.md#matching); rows are not merged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

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
    PluginOverrides,
)
from flyteidl.admin.project_pb2 import Project

from services.contracts.execution_config import check_config
from services.contracts.identifiers import GENERATED_PREFIX, check_part
from services.contracts.projects import check_active_with_domain, unregistered
from services.kit.errors import InvalidArgument, NotFound, ResourceExhausted
from services.projects.rules.attribute_values import check_values
from services.projects.rules.projects import not_found

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
"""The kind of each member of MatchingAttributes (projects.md#kinds-of-attributes); requests call it resource_type."""

# Attributes are requested at every launch and stored with every execution that they apply to.
MAX_BYTES = 64 * 1024
# Of one kind in all scopes together, when they are listed: that request has no limit and no next page, and flytekit
# receives at most 20 MiB.
MAX_LISTED_BYTES = 16 * 1024 * 1024


class Level(IntEnum):
    """How specific a scope is; the number is the priority of its rows."""

    PROJECT = 5
    PROJECT_DOMAIN = 10
    WORKFLOW = 100


@dataclass(frozen=True)
class Scope:
    """An attribute scope: where attributes are set or read; a part that the level does not have is empty."""

    level: Level
    project: str
    domain: str = ""
    workflow: str = ""

    @property
    def text(self) -> str:
        """The scope as error messages contain it."""
        parts = 1 + list(Level).index(self.level)
        return "-".join((self.project, self.domain, self.workflow)[:parts])


def check_write(scope: Scope, project: Project | None) -> None:
    """Raise InvalidArgument unless attributes may be set or deleted at `scope`, whose project is `project`.

    A project alone is checked as projects.md#check-of-a-project says, the project-domain of other scopes as
    projects.md#check-of-a-project-domain says, for reads too. The workflow need not exist.
    """
    if scope.level is Level.PROJECT:
        _check_project(scope.project, project)
        return
    if project is None:
        raise unregistered(scope.project, scope.domain, not_found(scope.project))
    check_active_with_domain(project, scope.domain)
    if scope.level is Level.WORKFLOW:
        check_part("name", scope.workflow, scope.workflow.removeprefix(GENERATED_PREFIX))


def check_read(scope: Scope, project: Project | None) -> None:
    """Raise InvalidArgument unless attributes may be read at `scope`, whose project is `project`.

    Of an archived project only those of the project itself may be (projects.md#check-of-a-project-for-reads).
    """
    if scope.level is not Level.PROJECT:
        check_write(scope, project)
    elif project is None:
        raise InvalidArgument(
            f"failed to validate that project [{scope.project}] exists, err: [{not_found(scope.project).message}]"
        )


def kind_of(attributes: MatchingAttributes) -> MatchableResource | None:
    """Return the kind of `attributes`, which is that of the member that is set; None when none is set."""
    member = attributes.WhichOneof("target")
    return None if member is None else KINDS[member]


def check_kind_known(kind: int) -> None:
    """Raise InvalidArgument for a number that is no kind (projects.md#listmatchableattributes)."""
    if kind not in MatchableResource.values():
        raise InvalidArgument("invalid value for resource_type")


def checked_kind(scope: Scope, attributes: MatchingAttributes | None) -> MatchableResource:
    """Return the kind of the `attributes` to set at `scope`.

    Raises:
        InvalidArgument: There is nothing to set, a value is invalid, or Kubernetes would refuse the objects of an
            execution with such a configuration.
    """
    if attributes is None:
        raise InvalidArgument("missing matching_attributes")
    kind = kind_of(attributes)
    if kind is None:
        raise InvalidArgument(f"Unrecognized matching attributes type for request {scope.text}")
    _check_size(attributes)
    check_values(attributes)
    if kind == WORKFLOW_EXECUTION_CONFIG:
        check_config(attributes.workflow_execution_config)
    return kind


def merged(current: MatchingAttributes | None, change: MatchingAttributes) -> MatchingAttributes:
    """Return what is stored for `change`: all of it, and plugin overrides of `current` for other task types.

    Raises:
        InvalidArgument: The result is too large.
    """
    if change.WhichOneof("target") != "plugin_overrides":
        return change
    overrides = {
        override.task_type: override
        for attributes in (current, change)
        if attributes is not None
        for override in attributes.plugin_overrides.overrides
    }
    together = MatchingAttributes(plugin_overrides=PluginOverrides(overrides=overrides.values()))
    _check_size(together)
    return together


def configuration(scope: Scope, attributes: MatchingAttributes) -> MatchableAttributesConfiguration:
    """Return `attributes` with their scope, as announcements contain them."""
    return MatchableAttributesConfiguration(
        project=scope.project, domain=scope.domain, workflow=scope.workflow, attributes=attributes
    )


def check_listable(size: int) -> None:
    """Raise ResourceExhausted when all attributes of a kind have together, in bytes, more than a response may."""
    if size > MAX_LISTED_BYTES:
        raise ResourceExhausted(
            f"the attributes of this kind have {size} bytes, a list may have {MAX_LISTED_BYTES}; "
            "read them for a project, a domain of it or a workflow"
        )


def attributes_not_found(scope: Scope, kind: int) -> NotFound:
    """Return the error of a read that finds no row (projects.md#matching)."""
    known = MatchableResource.DESCRIPTOR.values_by_number.get(kind)
    return NotFound(
        f"Resource [{{Project:{scope.project} Domain:{scope.domain} Workflow:{scope.workflow} LaunchPlan: "
        f"ResourceType:{known.name if known else kind}}}] not found"
    )


def _check_size(attributes: MatchingAttributes) -> None:
    if attributes.ByteSize() > MAX_BYTES:
        raise InvalidArgument(f"size of matching_attributes exceeded {MAX_BYTES} bytes")


def _check_project(identifier: str, project: Project | None) -> None:
    if project is None:
        raise InvalidArgument(
            f"failed to validate that project [{identifier}] is registered, err: [{not_found(identifier).message}]"
        )
    if project.state != Project.ACTIVE:
        raise InvalidArgument(f"project [{identifier}] is not active")
