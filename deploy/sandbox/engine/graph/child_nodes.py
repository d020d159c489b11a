"""Launch plan nodes: an execution of its own, which the node waits for."""

from typing import Final

from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.event.event_pb2 import WorkflowNodeMetadata

from deploy.sandbox.engine.graph.inputs import ChildFinished, ChildStarted
from deploy.sandbox.engine.graph.interface import StartChild, TaskKey
from deploy.sandbox.engine.graph.node import Node
from deploy.sandbox.engine.graph.node_ids import child_name

_FAILED: Final = "RemoteChildWorkflowExecutionFailed"


class ChildNode:
    """A launch plan node: QUEUED, RUNNING when the child exists, and the child's end."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._key = TaskKey(node.node_id)
        execution = node.runtime.run.execution
        self._child = child_of(execution, node.node_id, 0)

    def begin(self) -> None:
        """Create the child execution."""
        node = self._node
        node.queue()
        action = StartChild(
            key=self._key,
            child=self._child,
            launch_plan=node.spec.workflow_node.launchplan_ref,
            inputs=node.inputs,
            recovers=node.recovered.child if node.recovered else None,
        )
        node.runtime.expect(action, self._key, self._result)

    def _result(self, result: ChildStarted | ChildFinished) -> None:
        node, metadata = self._node, WorkflowNodeMetadata(execution_id=self._child)
        if isinstance(result, ChildStarted):
            if node.phase == NodeExecution.QUEUED:
                node.emit(NodeExecution.RUNNING, workflow_node_metadata=metadata)
            return
        node.runtime.forget(StartChild, self._key)
        # A child that could not be created is not there, so an event cannot name it.
        named = {"workflow_node_metadata": metadata} if node.phase == NodeExecution.RUNNING else {}
        if result.phase == WorkflowExecution.SUCCEEDED:
            node.succeed_with(result.outputs or LiteralMap(), **named)
        else:
            node.fail(child_error(result, self._child), **named)

    def abort(self, reason: str) -> None:
        """Terminate the child."""
        runtime = self._node.runtime
        if runtime.forget(StartChild, self._key):
            runtime.stop_child(self._child, abort_cause(runtime.run.execution, reason))


def child_of(execution: WorkflowExecutionIdentifier, node_id: str, attempt: int) -> WorkflowExecutionIdentifier:
    """Return the id of the child execution of a node."""
    name = child_name(execution.name, node_id, attempt)
    return WorkflowExecutionIdentifier(project=execution.project, domain=execution.domain, name=name)


def child_error(result: ChildFinished, child: WorkflowExecutionIdentifier) -> ExecutionError:
    """Return the error of a node whose child did not succeed."""
    if result.error is not None:
        return result.error
    if result.phase == WorkflowExecution.ABORTED:
        return ExecutionError(code=_FAILED, message=f"launchplan [{child.name}] aborted", kind=ExecutionError.USER)
    return ExecutionError(code="LaunchPlanExecutionFailed", message="Unknown Error")


def abort_cause(execution: WorkflowExecutionIdentifier, reason: str) -> str:
    """Return the cause with which a child is terminated."""
    return f"cascading abort as parent execution id [{execution.name}] aborted, reason [{reason}]"
