"""A node of a running workflow: its inputs, its phases and the events about them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.workflow_pb2 import Node as NodeSpec
from flyteidl.event.event_pb2 import DynamicWorkflowNodeMetadata, TaskNodeMetadata, WorkflowNodeMetadata

from deploy.sandbox.engine.graph.bindings import BindingFailed, resolve
from deploy.sandbox.engine.graph.durations import bounded
from deploy.sandbox.engine.graph.events import node_aborted_event, node_event
from deploy.sandbox.engine.graph.inputs import RecoveredLookedUp
from deploy.sandbox.engine.graph.interface import LookUpRecovered
from deploy.sandbox.engine.graph.node_ids import Parent, path_name, unique_id
from deploy.sandbox.engine.graph.retries import exhausted, timeout_error
from deploy.sandbox.engine.graph.roles import Kind, Surroundings
from deploy.sandbox.engine.graph.runtime import Runtime, Timer

# Phases in which a node has outputs for others.
SUCCESSFUL: Final = frozenset((NodeExecution.SUCCEEDED, NodeExecution.RECOVERED))
_WITH_ATTEMPTS: Final = frozenset(("task_node", "array_node"))
TERMINAL: Final = SUCCESSFUL | {
    NodeExecution.FAILED,
    NodeExecution.TIMED_OUT,
    NodeExecution.SKIPPED,
    NodeExecution.ABORTED,
}


class Node:
    """A node, from the moment it may start to its end.

    Args:
        runtime: Of the execution.
        spec: Its template.
        parent: The node in which it runs, None at the top level.
        around: The workflow in which it runs.
        kind: Returns what it does.
        ended: Called once, when it has ended in any phase but ABORTED.
        more_inputs: Returns inputs in addition to those that are bound.
    """

    def __init__(
        self,
        runtime: Runtime,
        spec: NodeSpec,
        parent: Parent | None,
        around: Surroundings,
        *,
        kind: "Callable[[Node], Kind]",
        ended: "Callable[[Node], None]",
        more_inputs: Mapping[str, Literal] | None = None,
    ) -> None:
        self.runtime = runtime
        self.spec = spec
        self.around = around
        self.node_id = unique_id(parent, spec.id)
        self.parent = parent
        self.phase: NodeExecution.Phase = NodeExecution.UNDEFINED
        self.inputs = LiteralMap()
        self.outputs = LiteralMap()
        self.outputs_at = ""
        """The URI of the outputs; "" when there are none."""
        self.default_output: Literal | None = None
        """The value of outputs that are not in `outputs`."""
        self.error: ExecutionError | None = None
        self.recovered: RecoveredLookedUp | None = None
        """What the reference execution has of this node, if it did not succeed there."""
        self.flags: dict[str, bool] = {"is_in_dynamic_chain": around.in_dynamic_chain}
        """Fields of all its events."""
        self._kind = kind(self)
        self._ended = ended
        self._timer: Timer | None = None
        self._more_inputs = more_inputs or {}

    @property
    def identifier(self) -> NodeExecutionIdentifier:
        """The id of the node execution."""
        return NodeExecutionIdentifier(node_id=self.node_id, execution_id=self.runtime.run.execution)

    @property
    def folder(self) -> str:
        """The URI below which its data is."""
        return f"{self.runtime.run.data_prefix}/{path_name(self.node_id)}/data"

    @property
    def input_uri(self) -> str:
        """The URI of its inputs."""
        return f"{self.folder}/inputs.pb"

    def output_prefix(self, attempt: int) -> str:
        """Return the folder of the outputs of an attempt."""
        return f"{self.folder}/{attempt}"

    def output_uri(self, attempt: int = 0) -> str:
        """Return the URI of the outputs of an attempt."""
        return f"{self.output_prefix(attempt)}/outputs.pb"

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.phase in TERMINAL

    # ---- Start

    def start(self) -> None:
        """Look the node up in the reference execution, or begin."""
        if self.is_over:
            return
        if self.runtime.run.recovers is not None:
            self.runtime.expect(LookUpRecovered(self.node_id), self.node_id, self._looked_up)
        else:
            self._begin()

    def _looked_up(self, result: RecoveredLookedUp) -> None:
        self.runtime.forget(LookUpRecovered, self.node_id)
        if result.phase in SUCCESSFUL and result.outputs is not None:
            if self._resolve_inputs():
                self._recover(result)
        else:
            self.recovered = result
            self._begin()

    def _begin(self) -> None:
        if self._resolve_inputs():
            self._kind.begin()

    def _resolve_inputs(self) -> bool:
        try:
            self.inputs = resolve(self.spec.inputs, self.around.output_of)
        except BindingFailed as failed:
            message = f"Error binding inputs of [{self.node_id}]: {failed}"
            error = ExecutionError(code="BindingResolutionFailure", message=message, kind=ExecutionError.SYSTEM)
            self.fail(error, input_uri="")
            return False
        for name, literal in self._more_inputs.items():
            self.inputs.literals[name].CopyFrom(literal)
        self.runtime.store(self.input_uri, self.inputs)
        return True

    # ---- Phases

    def queue(self) -> None:
        """Report that the node is queued."""
        self.emit(NodeExecution.QUEUED)

    def emit(self, phase: NodeExecution.Phase, **fields: Any) -> None:
        """Change the phase and report it."""
        self.phase = phase
        self.runtime.nodes[self.node_id] = self
        if phase == NodeExecution.RUNNING:
            self._start_timer()
        event = node_event(
            self.identifier,
            self.spec,
            self.parent,
            phase,
            self.runtime.at,
            **{"input_uri": self.input_uri, **self.flags, **fields},
        )
        self.runtime.emit(event)

    def _start_timer(self) -> None:
        """Bound the time of the node; attempts of tasks and items of arrays have timeouts of their own."""
        timeout = bounded(self.spec.metadata.timeout)
        if timeout and self.spec.WhichOneof("target") not in _WITH_ATTEMPTS:
            error = exhausted(timeout_error(timeout), 1, 1)
            self._timer = self.runtime.call_at(self.runtime.at + timeout, lambda: self.fail_from_outside(error))

    def succeed(self, outputs: LiteralMap, uri: str = "", **fields: Any) -> None:
        """End with `outputs`, which are at `uri`; "" when the node has none."""
        self.outputs, self.outputs_at = outputs, uri
        self._end(NodeExecution.SUCCEEDED, output_uri=uri, **fields)

    def succeed_with(self, outputs: LiteralMap, **fields: Any) -> None:
        """Store `outputs` and end with them."""
        self.runtime.store(self.output_uri(), outputs)
        self.succeed(outputs, self.output_uri(), **fields)

    def fail(self, error: ExecutionError, **fields: Any) -> None:
        """End with an error."""
        self.error = error
        self._end(NodeExecution.FAILED, error=error, **fields)

    def time_out(self, **fields: Any) -> None:
        """End because the node was active for too long."""
        self.error = ExecutionError(code="Timeout", message="Timeout in node", kind=ExecutionError.USER)
        self._end(NodeExecution.TIMED_OUT, error=self.error, **fields)

    def skip(self) -> None:
        """End without having run: a node that it depends on has no outputs."""
        if not self.is_over:
            self._end(NodeExecution.SKIPPED, input_uri="")

    def _recover(self, result: RecoveredLookedUp) -> None:
        self.outputs, self.outputs_at = result.outputs or LiteralMap(), self.output_uri()
        self.runtime.store(self.outputs_at, self.outputs)
        fields: dict[str, Any] = {}
        if result.child is not None:
            fields["workflow_node_metadata"] = WorkflowNodeMetadata(execution_id=result.child)
        elif result.dynamic_workflow is not None:
            dynamic = DynamicWorkflowNodeMetadata(
                id=result.dynamic_workflow.primary.template.id, compiled_workflow=result.dynamic_workflow
            )
            fields["task_node_metadata"] = TaskNodeMetadata(dynamic_workflow=dynamic)
            self.flags |= {"is_parent": True, "is_dynamic": True}
        self._end(NodeExecution.RECOVERED, output_uri=self.outputs_at, **fields)

    def _end(self, phase: NodeExecution.Phase, **fields: Any) -> None:
        self._cancel_timer()
        self.emit(phase, **fields)
        self.runtime.slots.release(self.node_id)
        self.runtime.later(lambda: self._ended(self))

    # ---- From outside

    def abort(self, reason: str) -> None:
        """End the node; one that has reported nothing ends silently."""
        if self.is_over:
            return
        self._stop(reason)
        has_events = self.phase != NodeExecution.UNDEFINED
        self.phase = NodeExecution.ABORTED
        self.runtime.slots.release(self.node_id)
        if has_events:
            self.runtime.emit(node_aborted_event(self.identifier, reason, self.runtime.at))

    def fail_from_outside(self, error: ExecutionError) -> None:
        """Fail the node, and end what runs for it."""
        if not self.is_over:
            self._stop(error.message)
            self.fail(error)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _stop(self, reason: str) -> None:
        self._cancel_timer()
        self.runtime.forget(LookUpRecovered, self.node_id)
        self._kind.abort(reason)
