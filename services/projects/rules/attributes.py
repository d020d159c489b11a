"""Matchable attributes: where they may be set and read, and what is kept (projects.md 9 to 11).

Checks run in the order in which they stand; the first failure wins. Values are checked by `attribute_values`, and JSON
must be able to tell them: they are answered over REST, and with executions. A scope is exact: what is written or
deleted at one never touches another. A read at a scope finds the row of the highest level that matches it; rows are
not merged.
"""

from dataclasses import dataclass
from enum import IntEnum

from flyteidl.admin.matchable_resource_pb2 import (
    WORKFLOW_EXECUTION_CONFIG,
    MatchableAttributesConfiguration,
    MatchableResource,
    MatchingAttributes,
    PluginOverrides,
)
from flyteidl.admin.project_pb2 import Project

from services.contracts.attributes import kind_of
from services.contracts.execution_config import check_config
from services.contracts.projects import check_registered, unregistered
from services.kit.errors import InvalidArgument, NotFound, ResourceExhausted
from services.projects.rules.attribute_values import check_values
from services.projects.rules.projects import missing

# Attributes are asked for at every launch and kept with every execution that they act on.
MAX_BYTES = 64 * 1024
# Of a kind in all places together, when they are listed: there is no limit and no next page in that request, and
# flytekit takes 20 MiB.
MAX_LISTED_BYTES = 16 * 1024 * 1024


class Level(IntEnum):
    """How specific a scope is; the number is the priority of its rows."""

    PROJECT = 5
    PROJECT_DOMAIN = 10
    WORKFLOW = 100


@dataclass(frozen=True)
class Scope:
    """Where attributes are set or looked for; a part that the level does not have is empty."""

    level: Level
    project: str
    domain: str = ""
    workflow: str = ""

    @property
    def text(self) -> str:
        """The scope as messages about a request write it."""
        parts = 1 + list(Level).index(self.level)
        return "-".join((self.project, self.domain, self.workflow)[:parts])


def check_scope(scope: Scope, project: Project | None) -> None:
    """Raise InvalidArgument unless attributes may be set or deleted at `scope`, whose project is `project`.

    Of a project alone check B of projects.md 9, else check A, which reads pass too. Whether the workflow exists is
    nobody's question.
    """
    if scope.level is Level.PROJECT:
        _check_project(scope.project, project)
        return
    if project is None:
        raise unregistered(scope.project, scope.domain, missing(scope.project))
    check_registered(project, scope.domain)
    if scope.level is Level.WORKFLOW and not scope.workflow:
        raise InvalidArgument("missing name")


def check_read(scope: Scope, project: Project | None) -> None:
    """Raise InvalidArgument unless attributes may be read at `scope`: of an archived project only its own (check C)."""
    if scope.level is not Level.PROJECT:
        check_scope(scope, project)
    elif project is None:
        raise InvalidArgument(
            f"failed to validate that project [{scope.project}] exists, err: [{missing(scope.project).message}]"
        )


def check_kind_known(kind: int) -> None:
    """Raise InvalidArgument for a number that stands for no kind (projects.md 11)."""
    if kind not in MatchableResource.values():
        raise InvalidArgument("invalid value for resource_type")


def kind_given(scope: Scope, attributes: MatchingAttributes | None) -> MatchableResource:
    """Return the kind of the `attributes` to set at `scope`.

    Raises InvalidArgument when there is nothing to set, a value that means nothing, or a configuration that no
    execution could run with.
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
    """Return what is kept of `change`: everything, and of plugin overrides also the other task types of `current`.

    Raises InvalidArgument when that grows too large.
    """
    if change.WhichOneof("target") != "plugin_overrides":
        return change
    overrides = {
        override.task_type: override
        for level in (current, change)
        if level is not None
        for override in level.plugin_overrides.overrides
    }
    together = MatchingAttributes(plugin_overrides=PluginOverrides(overrides=overrides.values()))
    _check_size(together)
    return together


def configuration(scope: Scope, attributes: MatchingAttributes) -> MatchableAttributesConfiguration:
    """Return `attributes` with their scope, as facts tell them."""
    return MatchableAttributesConfiguration(
        project=scope.project, domain=scope.domain, workflow=scope.workflow, attributes=attributes
    )


def check_listable(size: int) -> None:
    """Raise ResourceExhausted where what is set has more bytes together, `size`, than an answer may hold."""
    if size > MAX_LISTED_BYTES:
        raise ResourceExhausted(
            f"the attributes of this kind have {size} bytes, a list may have {MAX_LISTED_BYTES}; "
            "read them for a project, a domain of it or a workflow"
        )


def nothing_found(scope: Scope, kind: int) -> NotFound:
    """Return the failure of a read that finds no row (projects.md 11)."""
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
            f"failed to validate that project [{identifier}] is registered, err: [{missing(identifier).message}]"
        )
    if project.state != Project.ACTIVE:
        raise InvalidArgument(f"project [{identifier}] is not active")
