"""Where matchable attributes may be set and read, and what is stored of them."""

from typing import Any

import pytest
from flyteidl.admin.matchable_resource_pb2 import (
    MatchableResource,
    MatchingAttributes,
    PluginOverrides,
    WorkflowExecutionConfig,
)
from flyteidl.admin.project_pb2 import Domain, InactiveProject, Project

from services.contracts.projects import ProjectAndAttributes
from services.kit.errors import InvalidArgument
from services.projects.rules import attributes as rules
from services.projects.rules.attributes import KINDS, Level, Scope, kind_of
from tests.support.attributes import attributes, overrides
from tests.support.configs import BAD, GOOD, configured

DOMAINS = [Domain(id="development"), Domain(id="production")]
ACTIVE = Project(id="potato", domains=DOMAINS)
ARCHIVED = Project(id="potato", state=Project.ARCHIVED, domains=DOMAINS)
SYSTEM = Project(id="potato", state=Project.SYSTEM_GENERATED, domains=DOMAINS)

OF_PROJECT = Scope(Level.PROJECT, "potato")
OF_DOMAIN = Scope(Level.PROJECT_DOMAIN, "potato", "development")
OF_WORKFLOW = Scope(Level.WORKFLOW, "potato", "development", "peel")
PEEL = "Project:potato Domain:development Workflow:peel LaunchPlan:"

UNREGISTERED = (
    "failed to validate that project [potato] and domain [development] are registered, "
    "err: [project [potato] not found]"
)
NOT_ACTIVE = "project [potato] is not active"


@pytest.mark.parametrize(
    ("scope", "project", "message"),
    [
        (OF_PROJECT, None, "failed to validate that project [potato] is registered, err: [project [potato] not found]"),
        (OF_PROJECT, ARCHIVED, NOT_ACTIVE),
        (OF_PROJECT, SYSTEM, NOT_ACTIVE),
        (OF_DOMAIN, None, UNREGISTERED),
        (OF_DOMAIN, ARCHIVED, NOT_ACTIVE),
        (Scope(Level.PROJECT_DOMAIN, "potato", "mars"), ACTIVE, "domain [mars] is unrecognized by system"),
        (Scope(Level.PROJECT_DOMAIN, "potato"), ACTIVE, "domain [] is unrecognized by system"),
        (OF_WORKFLOW, None, UNREGISTERED),
        (OF_WORKFLOW, ARCHIVED, NOT_ACTIVE),
        (Scope(Level.WORKFLOW, "potato", "mars"), ARCHIVED, NOT_ACTIVE),
        (Scope(Level.WORKFLOW, "potato", "mars"), ACTIVE, "domain [mars] is unrecognized by system"),
        (Scope(Level.WORKFLOW, "potato", "development"), ACTIVE, "missing name"),
        (Scope(Level.WORKFLOW, "potato", "development", "é" * 128), ACTIVE, "size of name exceeded length 255"),
    ],
)
def test_scope_where_nothing_may_be_set_is_invalid_argument(
    scope: Scope, project: Project | None, message: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        rules.check_write(scope, project)
    assert refused.value.message == message
    has_detail = message == NOT_ACTIVE and scope.level is not Level.PROJECT
    assert refused.value.details == ((InactiveProject(id="potato"),) if has_detail else ())


@pytest.mark.parametrize("scope", [OF_PROJECT, OF_DOMAIN, OF_WORKFLOW])
def test_attributes_may_be_set_and_read_in_an_active_project(scope: Scope) -> None:
    rules.check_write(scope, ACTIVE)
    rules.check_read(scope, ACTIVE)


def test_archived_project_allows_reads_of_its_own_attributes_only() -> None:
    rules.check_read(OF_PROJECT, ARCHIVED)
    for scope in (OF_DOMAIN, OF_WORKFLOW):
        with pytest.raises(InvalidArgument) as refused:
            rules.check_read(scope, ARCHIVED)
        assert refused.value.message == NOT_ACTIVE


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (OF_PROJECT, "failed to validate that project [potato] exists, err: [project [potato] not found]"),
        (OF_DOMAIN, UNREGISTERED),
        (OF_WORKFLOW, UNREGISTERED),
    ],
)
def test_read_in_a_missing_project_is_invalid_argument(scope: Scope, message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        rules.check_read(scope, None)
    assert refused.value.message == message


def test_every_kind_is_known_by_its_member() -> None:
    assert set(KINDS) == {field.name for field in MatchingAttributes.DESCRIPTOR.fields}
    assert sorted(KINDS.values()) == sorted(MatchableResource.values())
    for name in MatchableResource.keys():  # noqa: SIM118  # an enum is no mapping
        assert kind_of(attributes(name, 1)) == MatchableResource.Value(name)


@pytest.mark.parametrize("name", MatchableResource.keys())
def test_every_kind_can_be_set(name: str) -> None:
    assert rules.checked_kind(OF_PROJECT, attributes(name, 1)) == MatchableResource.Value(name)


@pytest.mark.parametrize(
    ("scope", "given", "message"),
    [
        (OF_PROJECT, None, "missing matching_attributes"),
        (OF_PROJECT, MatchingAttributes(), "Unrecognized matching attributes type for request potato"),
        (OF_DOMAIN, MatchingAttributes(), "Unrecognized matching attributes type for request potato-development"),
        (
            OF_WORKFLOW,
            MatchingAttributes(),
            "Unrecognized matching attributes type for request potato-development-peel",
        ),
    ],
)
def test_update_without_attributes_is_invalid_argument(
    scope: Scope, given: MatchingAttributes | None, message: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        rules.checked_kind(scope, given)
    assert refused.value.message == message


@pytest.mark.parametrize(("field", "value", "message"), BAD)
def test_execution_config_that_kubernetes_refuses_is_invalid_argument(field: str, value: Any, message: str) -> None:
    config = configured(WorkflowExecutionConfig(), field, value)
    with pytest.raises(InvalidArgument) as refused:
        rules.checked_kind(OF_DOMAIN, MatchingAttributes(workflow_execution_config=config))
    # An invalid configuration that is also too large is refused for its size.
    too_large = config.ByteSize() > rules.MAX_BYTES
    assert refused.value.message.startswith("size of matching_attributes exceeded" if too_large else message)


@pytest.mark.parametrize(("field", "value"), GOOD)
def test_execution_config_that_kubernetes_accepts_is_allowed(field: str, value: Any) -> None:
    config = configured(WorkflowExecutionConfig(), field, value)
    rules.checked_kind(OF_DOMAIN, MatchingAttributes(workflow_execution_config=config))


def test_attributes_have_a_largest_size_at_once_and_over_time() -> None:
    large = MatchingAttributes(plugin_overrides=overrides(python="a" * (rules.MAX_BYTES - 100)))
    rules.checked_kind(OF_DOMAIN, large)
    more = MatchingAttributes(plugin_overrides=overrides(spark="b" * 100))
    with pytest.raises(InvalidArgument, match=f"size of matching_attributes exceeded {rules.MAX_BYTES} bytes"):
        rules.merged(large, more)
    large.plugin_overrides.overrides.extend(more.plugin_overrides.overrides)
    with pytest.raises(InvalidArgument, match="size of matching_attributes exceeded"):
        rules.checked_kind(OF_DOMAIN, large)


def _plugins(merged: MatchingAttributes) -> dict[str, list[str]]:
    return {override.task_type: list(override.plugin_id) for override in merged.plugin_overrides.overrides}


def test_plugin_overrides_replace_those_of_their_task_types_only() -> None:
    current = MatchingAttributes(plugin_overrides=overrides(python="a", spark="b"))
    merged = rules.merged(current, MatchingAttributes(plugin_overrides=overrides(spark="c", ray="d")))
    assert _plugins(merged) == {"python": ["a"], "spark": ["c"], "ray": ["d"]}
    assert len(merged.plugin_overrides.overrides) == 3


def test_first_plugin_overrides_are_stored_as_given() -> None:
    given = MatchingAttributes(plugin_overrides=overrides(python="a", spark="b"))
    assert rules.merged(None, given) == given
    assert rules.merged(None, MatchingAttributes(plugin_overrides=PluginOverrides())).HasField("plugin_overrides")


@pytest.mark.parametrize("name", [name for name in MatchableResource.keys() if name != "PLUGIN_OVERRIDE"])  # noqa: SIM118  # as above
def test_attributes_of_other_kinds_are_replaced_whole(name: str) -> None:
    assert rules.merged(attributes(name, 1), attributes(name, 2)) == attributes(name, 2)


@pytest.mark.parametrize(
    ("scope", "kind", "message"),
    [
        (
            OF_WORKFLOW,
            MatchableResource.CLUSTER_RESOURCE,
            f"Resource [{{{PEEL} ResourceType:CLUSTER_RESOURCE}}] not found",
        ),
        (
            OF_PROJECT,
            MatchableResource.CLUSTER_ASSIGNMENT,
            "Resource [{Project:potato Domain: Workflow: LaunchPlan: ResourceType:CLUSTER_ASSIGNMENT}] not found",
        ),
        (OF_PROJECT, 77, "Resource [{Project:potato Domain: Workflow: LaunchPlan: ResourceType:77}] not found"),
    ],
)
def test_attributes_not_found_names_scope_and_kind(scope: Scope, kind: int, message: str) -> None:
    assert rules.attributes_not_found(scope, kind).message == message


@pytest.mark.parametrize("kind", [8, -1])
def test_list_of_an_unknown_kind_is_invalid_argument(kind: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid value for resource_type$"):
        rules.check_kind_known(kind)


def test_project_and_attributes_survives_serialization() -> None:
    message = ProjectAndAttributes(
        project=ACTIVE, attributes=[rules.configuration(OF_WORKFLOW, attributes("TASK_RESOURCE", 1))]
    )
    assert ProjectAndAttributes.FromString(message.SerializeToString()) == message
    assert message.attributes[0].workflow == "peel"
