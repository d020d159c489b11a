"""What a node, its kind, the workflow around it and the owner of a workflow know of each other."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from flyteidl.core.compiler_pb2 import CompiledWorkflow
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.workflow_pb2 import Node as NodeSpec

from deploy.sandbox.engine.graph.library import Library
from deploy.sandbox.engine.graph.node_ids import Parent

if TYPE_CHECKING:
    from deploy.sandbox.engine.graph.node import Node


class Kind(Protocol):
    """What a node does, by the target of its template."""

    def begin(self) -> None:
        """Start; the inputs of the node are there."""

    def abort(self, reason: str) -> None:
        """End everything that runs for the node."""


class Owner(Protocol):
    """What a running workflow belongs to: the execution, a sub-workflow node or a dynamic node."""

    abort_reason: str
    """Why other nodes are aborted when one has failed."""

    def failing(self, error: ExecutionError) -> None:
        """Note that a node has failed; nothing was aborted yet."""

    def handling_failure(self, error: ExecutionError) -> None:
        """Note that the failure node starts."""

    def succeeded(self, outputs: LiteralMap, uri: str) -> None:
        """Note that the workflow ended; its outputs are at `uri`."""

    def failed(self, error: ExecutionError) -> None:
        """Note that the workflow failed, and its failure node has ended."""


class RunningWorkflow(Protocol):
    """What a workflow offers to the node that it is nested in."""

    def start(self, inputs: LiteralMap) -> None:
        """Start with `inputs`."""

    def abort(self, reason: str) -> None:
        """Abort all nodes that run."""


class Surroundings(Protocol):
    """The workflow in which a node runs."""

    library: Library
    in_dynamic_chain: bool
    """Whether the workflow, or one around it, was made by a dynamic task."""
    interruptible: bool
    """The default of the workflow."""

    def output_of(self, node_id: str, variable: str) -> Literal | None:
        """Return an output of another node of the workflow."""

    def run_inner(self, spec: NodeSpec, parent: Parent, ended: "Callable[[Node], None]") -> "Node":
        """Start a node of a branch, when the nodes that it depends on have ended."""

    def nested(self, library: Library, workflow: CompiledWorkflow, parent: Parent, owner: Owner) -> RunningWorkflow:
        """Return a workflow that runs inside a node of this one."""
