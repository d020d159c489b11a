"""What a node does, by the target of its template."""

from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.workflow_pb2 import Node as NodeSpec

from deploy.sandbox.engine.graph.array_nodes import ArrayNode
from deploy.sandbox.engine.graph.branch_nodes import BranchNode
from deploy.sandbox.engine.graph.child_nodes import ChildNode
from deploy.sandbox.engine.graph.gate_nodes import GateNode
from deploy.sandbox.engine.graph.node import Node
from deploy.sandbox.engine.graph.roles import Kind
from deploy.sandbox.engine.graph.task_nodes import TaskNode
from deploy.sandbox.engine.graph.workflow_nodes import WorkflowNode


class _NoTarget:
    """A node without a target fails."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def begin(self) -> None:
        message = f"node [{self._node.spec.id}] has no target"
        self._node.fail(ExecutionError(code="BadSpecificationError", message=message, kind=ExecutionError.SYSTEM))

    def abort(self, _reason: str) -> None:
        """Nothing runs."""


def kind_of(node: Node) -> Kind:
    """Return what `node` does."""
    target = node.spec.WhichOneof("target")
    if target == "workflow_node":
        return ChildNode(node) if node.spec.workflow_node.HasField("launchplan_ref") else WorkflowNode(node)
    if target == "task_node":
        return TaskNode(node)
    if target == "branch_node":
        return BranchNode(node)
    if target == "gate_node":
        return GateNode(node)
    return ArrayNode(node) if target == "array_node" else _NoTarget(node)


def needs_slot(spec: NodeSpec) -> bool:
    """Return whether a node waits for the maximum parallelism: task and launch plan nodes do."""
    return spec.WhichOneof("target") == "task_node" or spec.workflow_node.HasField("launchplan_ref")
