"""A running workflow: which nodes may start, and how it ends."""

from collections.abc import Callable, Iterable
from typing import Final

from flyteidl.core.compiler_pb2 import CompiledWorkflow
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.workflow_pb2 import Node as NodeSpec

from deploy.sandbox.engine.graph.bindings import BindingFailed, resolve
from deploy.sandbox.engine.graph.events import node_event
from deploy.sandbox.engine.graph.failure import error_inputs
from deploy.sandbox.engine.graph.kinds import kind_of, needs_slot
from deploy.sandbox.engine.graph.library import Library
from deploy.sandbox.engine.graph.node import SUCCESSFUL, Node
from deploy.sandbox.engine.graph.node_ids import Parent, path_name, unique_id
from deploy.sandbox.engine.graph.roles import Owner
from deploy.sandbox.engine.graph.runtime import Runtime

START: Final = "start-node"
END: Final = "end-node"


class Scope:
    """The workflow of the execution, of a sub-workflow node or of a dynamic node.

    Args:
        runtime: Of the execution.
        library: What its nodes refer to.
        workflow: The compiled workflow.
        parent: The node in which it runs; None for that of the execution.
        owner: What is to know of its end.
        fails_late: Whether nodes that do not depend on a failed one still run (policy
            FAIL_AFTER_EXECUTABLE_NODES_COMPLETE of the execution's workflow).
        interruptible: The default of the execution's workflow.
        in_dynamic_chain: Whether it, or a workflow around it, was made by a dynamic task.
    """

    def __init__(
        self,
        runtime: Runtime,
        library: Library,
        workflow: CompiledWorkflow,
        parent: Parent | None,
        owner: Owner,
        *,
        fails_late: bool,
        interruptible: bool,
        in_dynamic_chain: bool = False,
    ) -> None:
        self.library = library
        self.interruptible = interruptible
        self.in_dynamic_chain = in_dynamic_chain
        self._runtime = runtime
        self._template = workflow.template
        self._parent = parent
        self._owner = owner
        self._fails_late = fails_late
        self._specs = {spec.id: spec for spec in self._template.nodes}
        self._upstream = {name: tuple(ids.ids) for name, ids in workflow.connections.upstream.items()}
        self._inputs = LiteralMap()
        self._nodes: dict[str, Node] = {}
        self._ended: set[str] = set()
        self._unsuccessful: set[str] = set()
        self._missing: dict[str, set[str]] = {}
        self._dependents: dict[str, list[str]] = {}
        self._starts: dict[str, Callable[[], None]] = {}
        self._error: ExecutionError | None = None
        self._failed_node = ""
        self._failure_node: Node | None = None
        self._over = False

    # ---- Start

    def start(self, inputs: LiteralMap) -> None:
        """Report the start node and start all nodes that depend on it alone."""
        self._inputs = inputs
        uri = f"{self._runtime.run.data_prefix}/{path_name(self._id(START))}/data/0/outputs.pb"
        self._runtime.store(uri, inputs)
        self._report(START, NodeExecution.SUCCEEDED, output_uri=uri)
        for spec in self._specs.values():
            if spec.id not in {START, END}:
                self._nodes[spec.id] = Node(
                    self._runtime, spec, self._parent, self, kind=kind_of, ended=self._node_ended
                )
                self._start_after(spec.id, self._starter(self._nodes[spec.id]))
        self._start_after(END, self._end)
        self._release(START, successful=True)

    def _starter(self, node: Node) -> Callable[[], None]:
        def start() -> None:
            if self._upstream_failed(node.spec.id):
                node.skip()
            elif needs_slot(node.spec):
                self._runtime.slots.acquire(node.node_id, node.start)
            else:
                node.start()

        return start

    def run_inner(self, spec: NodeSpec, parent: Parent, ended: Callable[[Node], None]) -> Node:
        """Start a node of a branch, when the nodes that it depends on have ended."""
        node = Node(self._runtime, spec, parent, self, kind=kind_of, ended=ended)
        self._start_after(spec.id, self._starter(node))
        return node

    def nested(self, library: Library, workflow: CompiledWorkflow, parent: Parent, owner: Owner) -> "Scope":
        """Return a workflow that runs inside a node of this one; the failure policy is that of the execution."""
        return Scope(
            self._runtime,
            library,
            workflow,
            parent,
            owner,
            fails_late=self._fails_late,
            interruptible=self.interruptible,
            in_dynamic_chain=self.in_dynamic_chain or library.is_dynamic,
        )

    # ---- Order

    def _start_after(self, spec_id: str, start: Callable[[], None]) -> None:
        """Call `start` when all nodes upstream have ended."""
        missing = {each for each in self._upstream.get(spec_id, ()) if each not in self._ended}
        self._starts[spec_id], self._missing[spec_id] = start, missing
        for each in sorted(missing):
            self._dependents.setdefault(each, []).append(spec_id)
        if not missing:
            self._runtime.later(lambda: self._start(spec_id))

    def _start(self, spec_id: str) -> None:
        if not self._over and (self._error is None or self._fails_late):
            self._starts[spec_id]()

    def _release(self, spec_id: str, *, successful: bool) -> None:
        """Start the nodes that waited for a node."""
        self._ended.add(spec_id)
        if not successful:
            self._unsuccessful.add(spec_id)
        for dependent in self._dependents.pop(spec_id, ()):
            self._missing[dependent].discard(spec_id)
            if not self._missing[dependent]:
                self._runtime.later(lambda name=dependent: self._start(name))  # type: ignore[misc]

    def _upstream_failed(self, spec_id: str) -> bool:
        return any(each in self._unsuccessful for each in self._upstream.get(spec_id, ()))

    # ---- Values

    def output_of(self, node_id: str, variable: str) -> Literal | None:
        """Return an output of a node; those of the start node are the inputs of the workflow."""
        if node_id in {"", START}:
            return self._inputs.literals.get(variable)
        node = self._nodes.get(node_id)
        if node is None:
            return None
        names = {alias.alias: alias.var for alias in node.spec.output_aliases}
        return node.outputs.literals.get(names.get(variable, variable), node.default_output)

    # ---- End

    def _node_ended(self, node: Node) -> None:
        if self._over or node.phase == NodeExecution.ABORTED:
            return
        if node.error is not None and self._error is None:
            self._error, self._failed_node = node.error, node.node_id
            if not self._fails_late:
                self._fail(node.error)
                return
        self._release(node.spec.id, successful=node.phase in SUCCESSFUL)

    def _end(self) -> None:
        """End when all nodes have: with the outputs, or with the error of the first one that failed."""
        if self._error is not None:
            self._report(END, NodeExecution.SKIPPED)
            self._fail(self._error)
            return
        if self._upstream_failed(END):
            # Nothing failed, but a branch chose a node that was skipped.
            message = "the outputs depend on nodes that were skipped"
            self._fail(ExecutionError(code="BindingResolutionFailure", message=message, kind=ExecutionError.SYSTEM))
            return
        prefix = f"{self._runtime.run.data_prefix}/{path_name(self._id(END))}/data"
        try:
            outputs = resolve(self._template.outputs, self.output_of)
        except BindingFailed as failed:
            error = ExecutionError(
                code="BindingResolutionFailure",
                message=f"Error binding inputs of [{self._id(END)}]: {failed}",
                kind=ExecutionError.SYSTEM,
            )
            self._report(END, NodeExecution.FAILED, error=error)
            self._fail(error)
            return
        self._runtime.store(f"{prefix}/inputs.pb", outputs)
        self._report(END, NodeExecution.QUEUED, input_uri=f"{prefix}/inputs.pb")
        uri = f"{prefix}/0/outputs.pb"
        self._runtime.store(uri, outputs)
        self._report(END, NodeExecution.SUCCEEDED, input_uri=f"{prefix}/inputs.pb")
        self._over = True
        self._owner.succeeded(outputs, uri)

    def _fail(self, error: ExecutionError) -> None:
        """Abort what runs, run the failure node, and fail."""
        self._error = error
        self._owner.failing(error)
        self._abort_nodes(self._owner.abort_reason)
        if not self._template.HasField("failure_node"):
            self._failed(error)
            return
        self._owner.handling_failure(error)
        spec = self._template.failure_node
        more = error_inputs(spec, self.library, error, self._failed_node)
        self._failure_node = Node(
            self._runtime,
            spec,
            self._parent,
            self,
            kind=kind_of,
            ended=self._failure_node_ended,
            more_inputs=more,
        )
        start = self._failure_node.start
        if needs_slot(spec):
            self._runtime.slots.acquire(self._failure_node.node_id, start)
        else:
            start()

    def _failure_node_ended(self, node: Node) -> None:
        """Fail with the error of the failure node if it has one, else with that of the workflow."""
        if not self._over and node.phase != NodeExecution.ABORTED:
            self._failed(node.error or self._error or ExecutionError())

    def _failed(self, error: ExecutionError) -> None:
        self._over = True
        self._owner.failed(error)

    def fail(self, error: ExecutionError) -> None:
        """Abort what runs and fail, without the failure node."""
        if not self._over:
            self._owner.failing(error)
            self.abort(self._owner.abort_reason)
            self._owner.failed(error)

    def abort(self, reason: str) -> None:
        """Abort all nodes that run; nothing is reported to the owner."""
        self._over = True
        self._abort_nodes(reason)
        if self._failure_node is not None:
            self._failure_node.abort(reason)

    def _abort_nodes(self, reason: str) -> None:
        for node in self.nodes():
            node.abort(reason)

    def nodes(self) -> Iterable[Node]:
        """Return the nodes of the workflow, without those inside others."""
        return self._nodes.values()

    # ---- Start and end nodes

    def _id(self, spec_id: str) -> str:
        return unique_id(self._parent, spec_id)

    def _report(self, spec_id: str, phase: NodeExecution.Phase, **fields: object) -> None:
        fields = {"is_in_dynamic_chain": self.in_dynamic_chain, **fields}
        identifier = NodeExecutionIdentifier(node_id=self._id(spec_id), execution_id=self._runtime.run.execution)
        event = node_event(identifier, NodeSpec(id=spec_id), self._parent, phase, self._runtime.at, **fields)
        self._runtime.emit(event)
