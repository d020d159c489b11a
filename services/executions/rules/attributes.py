"""Which matchable attributes act on an execution (projects.md 12, executions.md 2.5, 2.7 and 2.8).

What matches the execution's scope comes most specific first, so of each kind the first one counts, whole; only
configurations are merged. What a request, its launch plan or its parent says itself goes before every attribute.
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
# These are of a namespace and of a pool of clusters, which all workflows of a project and domain share.
_OF_DOMAINS = frozenset({"cluster_resource_attributes", "cluster_assignment"})


def config_levels(matching: Matching) -> list[WorkflowExecutionConfig]:
    """Return the levels that attributes add to the merge of configurations.

    All of them: what a workflow's attributes leave unsaid is said by those of its project and domain, as people expect
    who set them there. The reference passes over all between the most specific one and the project's.
    """
    return [one.attributes.workflow_execution_config for one in matching if one.attributes.HasField(_CONFIG)]


def cluster_pool(matching: Matching, configured: str) -> str:
    """Return the pool that the project and domain are assigned to: by attributes, else the one `configured`."""
    assigned = _winners(matching).get("cluster_assignment")
    return (assigned.attributes.cluster_assignment.cluster_pool_name if assigned else "") or configured


def acting(
    matching: Matching, request: ExecutionSpec, launch_plan: LaunchPlanSpec | None, parent: ExecutionSpec | None
) -> ListMatchableAttributesResponse:
    """Return what acts on an execution beside its merged configuration: of each kind at most one, with its scope.

    `launch_plan` is None for a single task, `parent` is the spec of the execution that launches a child.
    """
    winners = _winners(matching)
    if request.HasField("quality_of_service") or (launch_plan and launch_plan.HasField("quality_of_service")):
        winners.pop("quality_of_service", None)
    if request.execution_cluster_label.value or (parent and parent.HasField("execution_cluster_label")):
        winners.pop("execution_cluster_label", None)
    if request.cluster_assignment.cluster_pool_name:
        winners.pop("cluster_assignment", None)
    return ListMatchableAttributesResponse(configurations=[winners[kind] for kind in sorted(winners)])


def shown(acting_: bytes) -> bytes:
    """Return what the serialized attributes that act on an execution add to its serialized spec."""
    spec = ExecutionSpec()
    for one in ListMatchableAttributesResponse.FromString(acting_).configurations:
        match one.attributes.WhichOneof("target"):
            case "quality_of_service":
                spec.quality_of_service.CopyFrom(one.attributes.quality_of_service)
            case "execution_cluster_label":
                spec.execution_cluster_label.CopyFrom(one.attributes.execution_cluster_label)
            case "cluster_assignment":
                spec.cluster_assignment.CopyFrom(one.attributes.cluster_assignment)
    return spec.SerializeToString()


def _winners(matching: Matching) -> dict[str, MatchableAttributesConfiguration]:
    winners: dict[str, MatchableAttributesConfiguration] = {}
    for one in matching:
        kind = one.attributes.WhichOneof("target")
        if kind is None or kind == _CONFIG or (kind in _OF_DOMAINS and (one.workflow or one.launch_plan)):
            continue
        winners.setdefault(kind, one)
    return winners
