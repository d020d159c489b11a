"""Which matchable attributes act on an execution, and what answers show of them."""

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

from services.executions.rules import attributes as rules
from tests.support.attributes import attributes

NOTHING = ExecutionSpec()
BESIDE_CONFIG = [name for name in MatchableResource.keys() if name != "WORKFLOW_EXECUTION_CONFIG"]  # noqa: SIM118  # an enum is no mapping
OF_DOMAINS = ("CLUSTER_RESOURCE", "CLUSTER_ASSIGNMENT")


def stored(kind: str, mark: int, *scope: str) -> MatchableAttributesConfiguration:
    """Attributes set for `project`, `domain` and `workflow`, as many as are given."""
    parts = dict(zip(("project", "domain", "workflow", "launch_plan"), scope, strict=False))
    return MatchableAttributesConfiguration(attributes=attributes(kind, mark), **parts)


def acting(
    matching: rules.Matching,
    request: ExecutionSpec = NOTHING,
    launch_plan: LaunchPlanSpec | None = None,
    parent: ExecutionSpec | None = None,
) -> list[MatchableAttributesConfiguration]:
    return list(rules.acting(matching, request, launch_plan, parent).configurations)


@pytest.mark.parametrize("kind", BESIDE_CONFIG)
def test_the_first_of_a_kind_acts_unless_it_is_of_a_workflow_and_the_kind_of_domains(kind: str) -> None:
    of_workflow, of_domain, of_project = stored(kind, 3, "p", "d", "w"), stored(kind, 2, "p", "d"), stored(kind, 1, "p")
    assert acting([of_workflow, of_domain, of_project]) == [of_domain if kind in OF_DOMAINS else of_workflow]
    assert acting([of_domain, of_project]) == [of_domain]
    assert acting([of_project]) == [of_project]
    assert acting([of_workflow]) == ([] if kind in OF_DOMAINS else [of_workflow])


def test_the_kinds_do_not_disturb_one_another() -> None:
    told = acting([stored(kind, 1, "p") for kind in MatchableResource.keys()])  # noqa: SIM118  # as above
    assert {one.attributes.WhichOneof("target") for one in told} == {
        attributes(kind, 1).WhichOneof("target") for kind in BESIDE_CONFIG
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
def test_what_a_launch_says_itself_goes_before_attributes(kind: str, levels: dict[str, Any]) -> None:
    others = stored("TASK_RESOURCE", 1, "p")
    assert acting([stored(kind, 1, "p", "d"), others], **levels) == [others]


@pytest.mark.parametrize(
    ("kind", "empty"),
    [
        ("EXECUTION_CLUSTER_LABEL", ExecutionSpec(execution_cluster_label=ExecutionClusterLabel())),
        ("CLUSTER_ASSIGNMENT", ExecutionSpec(cluster_assignment=ClusterAssignment())),
    ],
)
def test_what_a_launch_says_emptily_hides_no_attribute(kind: str, empty: ExecutionSpec) -> None:
    told = rules.acting([stored(kind, 1, "p", "d")], empty, None, None)
    assert len(told.configurations) == 1
    shown = ExecutionSpec.FromString(empty.SerializeToString() + rules.shown(told.SerializeToString()))
    assert "m1" in (shown.execution_cluster_label.value, shown.cluster_assignment.cluster_pool_name)


def test_configurations_are_levels_from_the_most_specific_on() -> None:
    kind = "WORKFLOW_EXECUTION_CONFIG"
    scopes = (("p", "d", "w"), ("p", "d"), ("", "d"), ("p",))
    matching = [stored(kind, mark, *scope) for mark, scope in zip((3, 2, 9, 1), scopes, strict=True)]
    told = rules.config_levels([*matching, stored("TASK_RESOURCE", 1, "p")])
    assert [level.max_parallelism for level in told] == [3, 2, 9, 1]
    assert rules.config_levels([]) == []


def test_the_pool_is_that_of_attributes_else_the_configured_one() -> None:
    kind = "CLUSTER_ASSIGNMENT"
    assert rules.cluster_pool([], "c") == "c"
    assert rules.cluster_pool([stored(kind, 1, "p", "d")], "c") == "m1"
    assert rules.cluster_pool([stored(kind, 3, "p", "d", "w"), stored(kind, 2, "p")], "c") == "m2"
    unnamed = MatchableAttributesConfiguration(attributes=MatchingAttributes(cluster_assignment=ClusterAssignment()))
    assert rules.cluster_pool([unnamed], "c") == "c"


def test_a_spec_shows_what_it_has_a_place_for() -> None:
    acts = rules.acting([stored(kind, 4, "p") for kind in BESIDE_CONFIG], NOTHING, None, None)
    assert ExecutionSpec.FromString(rules.shown(acts.SerializeToString())) == ExecutionSpec(
        quality_of_service=attributes("QUALITY_OF_SERVICE_SPECIFICATION", 4).quality_of_service,
        execution_cluster_label=ExecutionClusterLabel(value="m4"),
        cluster_assignment=ClusterAssignment(cluster_pool_name="m4"),
    )
