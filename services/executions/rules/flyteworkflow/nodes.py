"""NodeSpecs: the nodes of a workflow as flytepropeller reads them (engine.md#flyteworkflow-object)."""

from collections.abc import Mapping

from flyteidl.core.tasks_pb2 import Resources, TaskTemplate
from flyteidl.core.workflow_pb2 import (
    ArrayNode,
    BranchNode,
    GateNode,
    IfBlock,
    Node,
    NodeMetadata,
    TaskNodeOverrides,
    WorkflowNode,
)
from google.protobuf.duration_pb2 import Duration

from services.contracts.quantities import canonical_quantity, parse_quantity
from services.executions.rules.flyteworkflow.encoding import Json, identifier_key, plain, protojson
from services.executions.rules.flyteworkflow.errors import BuildCode, failure
from services.kit.protobuf.durations import LONGEST_NANOSECONDS, NANOSECONDS, duration_text

START_NODE = "start-node"
_KINDS_BY_ID = {START_NODE: "start", "end-node": "end"}
_KINDS = {
    "task_node": "task",
    "workflow_node": "workflow",
    "branch_node": "branch",
    "gate_node": "gate",
    "array_node": "array",
}
# What Kubernetes calls the resources of a container; storage has no name there.
_RESOURCES = {
    Resources.CPU: "cpu",
    Resources.MEMORY: "memory",
    Resources.GPU: "nvidia.com/gpu",
    Resources.EPHEMERAL_STORAGE: "ephemeral-storage",
}
# The time that a node may take with waiting, in terms of that which it may run.
_ACTIVE_DEADLINES = 2

Tasks = Mapping[str, TaskTemplate]
"""The tasks of a workflow, by `identifier_key`."""


def node_specs(node: Node, tasks: Tasks) -> list[Json]:
    """Return the NodeSpec of `node`, then those of the nodes in its branches, at any depth.

    Raises:
        BuildFailed: The node, or one in it, has no target, no such task, or a value that cannot be written.
    """
    target = node.WhichOneof("target")
    kind = _KINDS.get(target or "") or _KINDS_BY_ID.get(node.id)
    if kind is None:
        raise failure(BuildCode.VALUE_REQUIRED, node.id, "Value required [target].")
    spec: Json = {"id": node.id, "resources": {}, "kind": kind}
    children: list[Json] = []
    task = None
    match target:
        case "task_node":
            task = _task(node, tasks)
            spec["task"] = identifier_key(task.id)
            spec |= _overridden(node.id, node.task_node.overrides)
        case "workflow_node":
            spec["workflow"] = _reference(node.id, node.workflow_node)
        case "branch_node":
            spec["branch"], children = _branch(node.branch_node, tasks)
        case "gate_node":
            spec["gate"] = _gate(node.id, node.gate_node)
        case "array_node":
            spec["array"] = _array(node.id, node.array_node, tasks)
    if node.inputs:
        spec["inputBindings"] = [protojson(binding) for binding in node.inputs]
    if node.output_aliases:
        spec["outputAlias"] = [plain(alias) for alias in node.output_aliases]
    spec |= _of_metadata(node.id, node.metadata)
    if retries := node.metadata.retries.retries or (task.metadata.retries.retries if task else 0):
        spec["retry"] = {"minAttempts": retries + 1}
    return [spec, *children]


def _task(node: Node, tasks: Tasks) -> TaskTemplate:
    key = identifier_key(node.task_node.reference_id)
    if key not in tasks:
        raise failure(BuildCode.TASK_REFERENCE_NOT_FOUND, node.id, f"Referenced Task [{key}] not found.")
    return tasks[key]


def _of_metadata(node_id: str, metadata: NodeMetadata) -> Json:
    members: Json = {}
    if metadata.name:
        members["name"] = metadata.name
    if metadata.HasField("timeout"):
        nanoseconds = _nanoseconds(node_id, metadata.timeout)
        members["executionDeadline"] = duration_text(nanoseconds)
        members["activeDeadline"] = duration_text(min(_ACTIVE_DEADLINES * nanoseconds, LONGEST_NANOSECONDS))
    if metadata.HasField("interruptible"):
        members["interruptible"] = metadata.interruptible
    return members


def _nanoseconds(node_id: str, timeout: Duration) -> int:
    nanoseconds: int = timeout.seconds * NANOSECONDS + timeout.nanos
    if abs(nanoseconds) > LONGEST_NANOSECONDS:
        raise failure(BuildCode.SYNTAX_ERROR, node_id, "Failed to parse element [node:metadata:timeout].")
    return nanoseconds


def _overridden(node_id: str, overrides: TaskNodeOverrides) -> Json:
    """Return the members for what a node sets instead of its task: resources, accelerators, image, pod."""
    members: Json = {"resources": _resources(node_id, overrides.resources)}
    if overrides.HasField("extended_resources"):
        members["extendedResources"] = protojson(overrides.extended_resources)
    if overrides.container_image:
        members["containerImage"] = overrides.container_image
    if overrides.HasField("pod_template"):
        members["podTemplate"] = plain(overrides.pod_template)
    return members


def _resources(node_id: str, resources: Resources) -> Json:
    """Return `{"limits": {..}, "requests": {..}}` as Kubernetes writes them, without zeros and what is empty."""
    members: Json = {}
    for member, entries in (("limits", resources.limits), ("requests", resources.requests)):
        amounts = {}
        for entry in entries:
            try:
                if entry.name in _RESOURCES and parse_quantity(entry.value):
                    amounts[_RESOURCES[entry.name]] = canonical_quantity(entry.value)
            except ValueError as error:
                raise failure(BuildCode.WORKFLOW_BUILD_ERROR, node_id, str(error)) from error
        if amounts:
            members[member] = amounts
    return members


def _reference(node_id: str, workflow: WorkflowNode) -> Json:
    match workflow.WhichOneof("reference"):
        case "launchplan_ref":
            return {"launchPlanRefId": protojson(workflow.launchplan_ref)}
        case "sub_workflow_ref":
            return {"subWorkflowRef": identifier_key(workflow.sub_workflow_ref)}
    raise failure(BuildCode.VALUE_REQUIRED, node_id, "Value required [WorkflowNode.Reference].")


def _branch(branch: BranchNode, tasks: Tasks) -> tuple[Json, list[Json]]:
    """Return the branch, and the nodes of its cases, which are nodes of the workflow itself in a resource."""
    if_else = branch.if_else
    children = node_specs(if_else.case.then_node, tasks)
    spec: Json = {"if": _case(if_else.case)}
    if if_else.other:
        spec["elseIf"] = [_case(block) for block in if_else.other]
    for block in if_else.other:
        children += node_specs(block.then_node, tasks)
    match if_else.WhichOneof("default"):
        case "else_node":
            spec["else"] = if_else.else_node.id
            children += node_specs(if_else.else_node, tasks)
        case "error":
            spec["elseFail"] = plain(if_else.error)
    return spec, children


def _case(block: IfBlock) -> Json:
    return {"condition": protojson(block.condition), "then": block.then_node.id}


def _gate(node_id: str, gate: GateNode) -> Json:
    condition = gate.WhichOneof("condition")
    if condition is None:
        raise failure(BuildCode.VALUE_REQUIRED, node_id, "Value required [GateNode.Condition].")
    return {"kind": condition, condition: protojson(getattr(gate, condition))}


def _array(node_id: str, array: ArrayNode, tasks: Tasks) -> Json:
    sub_node, *children = node_specs(array.node, tasks)
    if children:
        # An array runs its one node only: flytepropeller would not find those of the branch's cases.
        raise failure(BuildCode.WORKFLOW_BUILD_ERROR, node_id, "an array node cannot repeat a branch node")
    # The shortest text of a ratio, which has 32 bits: 0.9 instead of 0.8999999761581421.
    ratio = protojson(ArrayNode(min_success_ratio=array.min_success_ratio))["minSuccessRatio"]
    return {
        "SubNodeSpec": sub_node,
        "Parallelism": array.parallelism if array.HasField("parallelism") else None,
        "MinSuccesses": array.min_successes if array.HasField("min_successes") else None,
        "MinSuccessRatio": ratio if array.HasField("min_success_ratio") else None,
        "BoundInputs": list(array.bound_inputs) or None,
    }
