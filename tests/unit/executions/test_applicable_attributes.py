"""Choice of the matchable attributes that act on an execution, and those that responses show."""

from typing import Any

import pytest
from flyteidl.admin.cluster_assignment_pb2 import ClusterAssignment
from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.launch_plan_pb2 import LaunchPlanSpec
from flyteidl.admin.matchable_resource_pb2 import (
    ExecutionClusterLabel,
    MatchableAttributesConfiguration,
    MatchableResource,
    MatchingAttributes,
)
from flyteidl.core.execution_pb2 import QualityOfService

from services.executions.responses.entities import attribute_spec
from services.executions.rules import attributes as rules
from tests.support.attributes import attributes

NOTHING = ExecutionSpec()
EXCEPT_CONFIG = [name for name in MatchableResource.keys() if name != "WORKFLOW_EXECUTION_CONFIG"]  # noqa: SIM118  # an enum is no mapping
OF_DOMAINS = ("CLUSTER_RESOURCE", "CLUSTER_ASSIGNMENT")


def stored(kind: str, mark: int, *scope: str) -> MatchableAttributesConfiguration:
    """Return attributes of an attribute scope: project, domain, workflow and launch plan, as many as are given."""
    parts = dict(zip(("project", "domain", "workflow", "launch_plan"), scope, strict=False))
    return MatchableAttributesConfiguration(attributes=attributes(kind, mark), **parts)


def acting(
    matching: rules.Matching,
    request: ExecutionSpec = NOTHING,
    launch_plan: LaunchPlanSpec | None = None,
    parent: ExecutionSpec | None = None,
) -> list[MatchableAttributesConfiguration]:
    return list(rules.applicable_attributes(matching, request, launch_plan, parent).configurations)


@pytest.mark.parametrize("kind", EXCEPT_CONFIG)
def test_first_attribute_of_a_kind_acts_except_kinds_of_domains_set_for_a_workflow(kind: str) -> None:
    of_workflow, of_domain, of_project = stored(kind, 3, "p", "d", "w"), stored(kind, 2, "p", "d"), stored(kind, 1, "p")
    assert acting([of_workflow, of_domain, of_project]) == [of_domain if kind in OF_DOMAINS else of_workflow]
    assert acting([of_domain, of_project]) == [of_domain]
    assert acting([of_project]) == [of_project]
    assert acting([of_workflow]) == ([] if kind in OF_DOMAINS else [of_workflow])


def test_attributes_of_different_kinds_all_act() -> None:
    result = acting([stored(kind, 1, "p") for kind in MatchableResource.keys()])  # noqa: SIM118  # as above
    assert {item.attributes.WhichOneof("target") for item in result} == {
        attributes(kind, 1).WhichOneof("target") for kind in EXCEPT_CONFIG
    }


@pytest.mark.parametrize(
    ("kind", "levels"),
    [
        ("QUALITY_OF_SERVICE_SPECIFICATION", {"request": ExecutionSpec(quality_of_service=QualityOfService())}),
        ("QUALITY_OF_SERVICE_SPECIFICATION", {"launch_plan": LaunchPlanSpec(quality_of_service=QualityOfService())}),
        (
            "EXECUTION_CLUSTER_LABEL",
            {"request": ExecutionSpec(execution_cluster_label=ExecutionClusterLabel(value="own"))},
        ),
        (
            "EXECUTION_CLUSTER_LABEL",
            {"parent": ExecutionSpec(execution_cluster_label=ExecutionClusterLabel(value="parent"))},
        ),
        (
            "CLUSTER_ASSIGNMENT",
            {"request": ExecutionSpec(cluster_assignment=ClusterAssignment(cluster_pool_name="m1"))},
        ),
    ],
)
def test_value_of_a_launch_goes_before_attributes(kind: str, levels: dict[str, Any]) -> None:
    others = stored("TASK_RESOURCE", 1, "p")
    assert acting([stored(kind, 1, "p", "d"), others], **levels) == [others]


@pytest.mark.parametrize(
    ("kind", "empty"),
    [
        ("EXECUTION_CLUSTER_LABEL", ExecutionSpec(execution_cluster_label=ExecutionClusterLabel())),
        ("CLUSTER_ASSIGNMENT", ExecutionSpec(cluster_assignment=ClusterAssignment())),
    ],
)
def test_empty_value_of_a_launch_hides_no_attribute(kind: str, empty: ExecutionSpec) -> None:
    result = rules.applicable_attributes([stored(kind, 1, "p", "d")], empty, None, None)
    assert len(result.configurations) == 1
    added = attribute_spec(result.SerializeToString()).SerializeToString()
    shown = ExecutionSpec.FromString(empty.SerializeToString() + added)
    assert "m1" in (shown.execution_cluster_label.value, shown.cluster_assignment.cluster_pool_name)


def test_configurations_are_levels_from_the_most_specific_on() -> None:
    kind = "WORKFLOW_EXECUTION_CONFIG"
    scopes = (("p", "d", "w"), ("p", "d"), ("", "d"), ("p",))
    matching = [stored(kind, mark, *scope) for mark, scope in zip((3, 2, 9, 1), scopes, strict=True)]
    levels = rules.config_levels([*matching, stored("TASK_RESOURCE", 1, "p")])
    assert [level.max_parallelism for level in levels] == [3, 2, 9, 1]
    assert rules.config_levels([]) == []


def test_cluster_pool_is_that_of_attributes_else_the_configured_one() -> None:
    kind = "CLUSTER_ASSIGNMENT"
    assert rules.cluster_pool([], "c") == "c"
    assert rules.cluster_pool([stored(kind, 1, "p", "d")], "c") == "m1"
    assert rules.cluster_pool([stored(kind, 3, "p", "d", "w"), stored(kind, 2, "p")], "c") == "m2"
    unnamed = MatchableAttributesConfiguration(attributes=MatchingAttributes(cluster_assignment=ClusterAssignment()))
    assert rules.cluster_pool([unnamed], "c") == "c"


def test_spec_shows_the_attributes_that_it_has_fields_for() -> None:
    acts = rules.applicable_attributes([stored(kind, 4, "p") for kind in EXCEPT_CONFIG], NOTHING, None, None)
    assert attribute_spec(acts.SerializeToString()) == ExecutionSpec(
        quality_of_service=attributes("QUALITY_OF_SERVICE_SPECIFICATION", 4).quality_of_service,
        execution_cluster_label=ExecutionClusterLabel(value="m4"),
        cluster_assignment=ClusterAssignment(cluster_pool_name="m4"),
    )
