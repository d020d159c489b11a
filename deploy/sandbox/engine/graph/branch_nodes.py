"""Branch nodes: one of their nodes runs."""

from flyteidl.core.execution_pb2 import NodeExecution

from deploy.sandbox.engine.graph.conditions import BranchFailed, chosen
from deploy.sandbox.engine.graph.node import SUCCESSFUL, Node
from deploy.sandbox.engine.graph.node_ids import Parent


class BranchNode:
    """A branch node: QUEUED, RUNNING, and the end of the chosen node. Other nodes of the branch report nothing."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._inner: Node | None = None

    def begin(self) -> None:
        """Choose a node by the conditions and start it."""
        node = self._node
        node.queue()
        try:
            spec = chosen(node.spec.branch_node, node.inputs)
        except BranchFailed as failed:
            node.fail(failed.error)
            return
        node.emit(NodeExecution.RUNNING)
        self._inner = node.around.run_inner(spec, Parent(node.node_id, 0), self._ended)

    def _ended(self, inner: Node) -> None:
        node = self._node
        if node.is_over:
            return
        if inner.phase in SUCCESSFUL:
            node.succeed(inner.outputs, inner.outputs_at)
        elif inner.phase == NodeExecution.SKIPPED:
            node.skip()
        elif inner.error is not None:
            node.fail(inner.error)

    def abort(self, reason: str) -> None:
        """Abort the chosen node."""
        if self._inner is not None:
            self._inner.abort(reason)
