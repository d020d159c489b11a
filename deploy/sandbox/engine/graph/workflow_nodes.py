"""Sub-workflow nodes: a workflow of the same closure, whose nodes belong to the same execution."""

from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution
from flyteidl.core.literals_pb2 import LiteralMap

from deploy.sandbox.engine.graph.node import Node
from deploy.sandbox.engine.graph.node_ids import Parent
from deploy.sandbox.engine.graph.roles import RunningWorkflow
from services.contracts.identifiers import key_of


class WorkflowNode:
    """A sub-workflow node: QUEUED, RUNNING, nested nodes from start node to end node, and its end."""

    abort_reason = "subworkflow failed"

    def __init__(self, node: Node) -> None:
        self._node = node
        self._has_outputs = False
        self._running: RunningWorkflow | None = None
        node.flags["is_parent"] = True

    def begin(self) -> None:
        """Start the sub-workflow with the inputs of the node."""
        node = self._node
        reference = node.spec.workflow_node.sub_workflow_ref
        workflow = node.around.library.workflows.get(key_of(reference))
        node.queue()
        if workflow is None:
            message = f"failed to find sub workflow with ID [{reference.name}]"
            error = ExecutionError(code="SubWorkflowExecutionFailed", message=message, kind=ExecutionError.SYSTEM)
            node.fail(error)
            return
        node.emit(NodeExecution.RUNNING)
        self._has_outputs = bool(workflow.template.outputs)
        parent = Parent(node.node_id, 0)
        self._running = node.around.nested(node.around.library, workflow, parent, self)
        self._running.start(node.inputs)

    def failing(self, error: ExecutionError) -> None:
        """Report nothing: the node fails when its failure node has ended."""

    def handling_failure(self, error: ExecutionError) -> None:
        """Report nothing."""

    def succeeded(self, outputs: LiteralMap, uri: str) -> None:  # noqa: ARG002  # the node has a copy of its own
        """End with the outputs of the workflow."""
        if self._has_outputs:
            self._node.succeed_with(outputs)
        else:
            self._node.succeed(outputs)

    def failed(self, error: ExecutionError) -> None:
        """Fail with the workflow."""
        self._node.fail(error)

    def abort(self, reason: str) -> None:
        """Abort the nodes of the sub-workflow."""
        if self._running is not None:
            self._running.abort(reason)
