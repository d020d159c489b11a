"""Requests of the generator that builds spans, and their results (executions.md#getexecutionmetrics)."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.core.metrics_pb2 import Span


@dataclass(frozen=True)
class Node:
    """A node execution and the attempts of its task, in the order of lists; `row` is its row id."""

    id: NodeExecutionIdentifier
    row: int
    closure: NodeExecutionClosure
    metadata: NodeExecutionMetaData
    dynamic_uri: str = ""
    tasks: Sequence["Task"] = ()

    @property
    def spec_id(self) -> str:
        """The id of the node in its workflow."""
        return self.metadata.spec_node_id or self.id.node_id


@dataclass(frozen=True)
class Task:
    """An attempt of a task; of its closure, only the times are present."""

    id: TaskExecutionIdentifier
    closure: TaskExecutionClosure


@dataclass(frozen=True)
class Run:
    """An execution with all its nodes, by the row id of their parent; None for the top level."""

    id: WorkflowExecutionIdentifier
    closure: ExecutionClosure
    nodes: Mapping[int | None, Sequence[Node]] = field(default_factory=dict)

    @cached_property
    def spec_ids(self) -> frozenset[str]:
        """The ids that the nodes have in their workflows."""
        return frozenset(node.spec_id for siblings in self.nodes.values() for node in siblings)


@dataclass(frozen=True, slots=True)
class LaidOutNode:
    """A node with what its workflow says about it.

    Attributes:
        node: The node.
        kind: The field of its target; `launch_plan` or `sub_workflow` for a workflow node; "" if there is none.
        before: The node that it waited for last.
        inside: The nodes below it, unless another closure describes them.
        reference: The sub-workflow whose closure describes them.
    """

    node: Node
    kind: str
    before: Node | None
    inside: "Layout | None" = None
    reference: Identifier | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Executed nodes of one workflow, without its start and end, by creation; `last` ended it."""

    nodes: Sequence[LaidOutNode]
    last: Node | None


@dataclass(frozen=True)
class RunSpanRequest:
    """A request for an execution, with its nodes if their spans are needed."""

    execution: WorkflowExecutionIdentifier
    with_nodes: bool = True


@dataclass(frozen=True)
class WorkflowSpanRequest:
    """A request for the layout of the nodes below `parent`, by the compiled closure of a registered workflow."""

    id: Identifier
    run: Run
    parent: int | None = None


@dataclass(frozen=True)
class DynamicSpanRequest:
    """A request for the layout of the nodes below `parent`, by the compiled closure that it made."""

    uri: str
    run: Run
    parent: int | None


SpanRequest = RunSpanRequest | WorkflowSpanRequest | DynamicSpanRequest
# None is a workflow whose closure is missing in the object store: its span has no nodes.
SpanResult = Run | Layout | None
Spans = Generator[SpanRequest, SpanResult, list[Span]]
OneSpan = Generator[SpanRequest, SpanResult, Span]
