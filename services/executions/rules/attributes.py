"""Choice of the matchable attributes that act on an execution (executions.md#attributes-of-an-execution).

Attributes that match an attribute scope are sorted, the most specific first. The first one of a kind acts, whole; only
configurations are merged. A value of the request, its launch plan or its parent takes precedence over every
attribute.
"""

from collections.abc import Sequence

from flyteidl.admin.execution_pb2 import ExecutionSpec
from flyteidl.admin.launch_plan_pb2 import LaunchPlanSpec
from flyteidl.admin.matchable_resource_pb2 import (
    ListMatchableAttributesResponse,
    MatchableAttributesConfiguration,
    WorkflowExecutionConfig,
)

Matching = Sequence[MatchableAttributesConfiguration]

_CONFIG = "workflow_execution_config"
# They configure a namespace and a pool of clusters, which all workflows of a project-domain share.
_OF_DOMAINS = frozenset({"cluster_resource_attributes", "cluster_assignment"})


def config_levels(matching: Matching) -> list[WorkflowExecutionConfig]:
    """Return the levels that attributes add to the merge of configurations.

    All of them: a field that a workflow's attributes leave unset is taken from those of its project-domain. Users who
    set it there expect that. flyteadmin skips all levels between the most specific one and the project's.
    """
    return [item.attributes.workflow_execution_config for item in matching if item.attributes.HasField(_CONFIG)]


def cluster_pool(matching: Matching, configured: str) -> str:
    """Return the cluster pool that the project-domain is assigned to: by attributes, else `configured`."""
    assigned = _most_specific(matching).get("cluster_assignment")
    return (assigned.attributes.cluster_assignment.cluster_pool_name if assigned else "") or configured


def applicable_attributes(
    matching: Matching, request: ExecutionSpec, launch_plan: LaunchPlanSpec | None, parent: ExecutionSpec | None
) -> ListMatchableAttributesResponse:
    """Return the attributes that act on an execution, apart from the merged configuration.

    Args:
        matching: All attributes of its scope, the most specific first.
        request: The spec of the launch.
        launch_plan: None for a single task.
        parent: The spec of the execution that launches a child; None without a parent.

    Returns:
        One attribute of each kind at most, each with the scope that it was set for.
    """
    most_specific = _most_specific(matching)
    if request.HasField("quality_of_service") or (launch_plan and launch_plan.HasField("quality_of_service")):
        most_specific.pop("quality_of_service", None)
    if request.execution_cluster_label.value or (parent and parent.HasField("execution_cluster_label")):
        most_specific.pop("execution_cluster_label", None)
    if request.cluster_assignment.cluster_pool_name:
        most_specific.pop("cluster_assignment", None)
    return ListMatchableAttributesResponse(configurations=[most_specific[kind] for kind in sorted(most_specific)])


def _most_specific(matching: Matching) -> dict[str, MatchableAttributesConfiguration]:
    most_specific: dict[str, MatchableAttributesConfiguration] = {}
    for item in matching:
        kind = item.attributes.WhichOneof("target")
        if kind is None or kind == _CONFIG or (kind in _OF_DOMAINS and (item.workflow or item.launch_plan)):
            continue
        most_specific.setdefault(kind, item)
    return most_specific
