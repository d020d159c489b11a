"""What the building of spans asks for, and what it is sent (executions.md section 9)."""

from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import (
    Identifier,
    NodeExecutionIdentifier,
    ResourceType,
    TaskExecutionIdentifier,
    WorkflowExecutionIdentifier,
)
from flyteidl.core.metrics_pb2 import Span


@dataclass(frozen=True)
class Node:
    """A node execution and the attempts of its task, in the order in which they are listed."""

    id: NodeExecutionIdentifier
    row: int
    closure: NodeExecutionClosure
    metadata: NodeExecutionMetaData
    dynamic_uri: str = ""
    tasks: Sequence["Task"] = ()

    @property
    def spec_id(self) -> str:
        """Its id in the workflow."""
        return self.metadata.spec_node_id or self.id.node_id


@dataclass(frozen=True)
class Task:
    """An attempt of a task."""

    id: TaskExecutionIdentifier
    closure: TaskExecutionClosure


@dataclass(frozen=True)
class Run:
    """An execution with all its nodes, by the row of their parent; None has those of the top level."""

    id: WorkflowExecutionIdentifier
    closure: ExecutionClosure
    nodes: Mapping[int | None, Sequence[Node]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSpanRequest:
    """An execution; without its nodes where nothing is told of them."""

    execution: WorkflowExecutionIdentifier
    with_nodes: bool = True


@dataclass(frozen=True)
class WorkflowSpanRequest:
    """The compiled closure of a registered workflow."""

    id: Identifier


@dataclass(frozen=True)
class DynamicSpanRequest:
    """The compiled closure that a dynamic node made."""

    uri: str


SpanRequest = RunSpanRequest | WorkflowSpanRequest | DynamicSpanRequest
# None is a workflow that is registered, or was made, and whose closure is gone: nothing is told of its nodes.
Found = Run | CompiledWorkflowClosure | None
Spans = Generator[SpanRequest, Found, list[Span]]
OneSpan = Generator[SpanRequest, Found, Span]

# id, node_id, parent_id, closure, node_execution_metadata, dynamic_workflow_remote_closure_reference
NodeRow = tuple[int, str, int | None, bytes, bytes, str]
# node_id, project, domain, name, version, retry_attempt, closure
TaskRow = tuple[str, str, str, str, str, int, bytes]


def run_of(
    execution: WorkflowExecutionIdentifier, closure: bytes, nodes: Iterable[NodeRow], tasks: Iterable[TaskRow]
) -> Run:
    """Put an execution together from its rows, which are in the order in which they are listed."""
    attempts: defaultdict[str, list[Task]] = defaultdict(list)
    for node_id, project, domain, name, version, attempt, task in tasks:
        identifier = TaskExecutionIdentifier(
            task_id=Identifier(
                resource_type=ResourceType.TASK, project=project, domain=domain, name=name, version=version
            ),
            node_execution_id=NodeExecutionIdentifier(node_id=node_id, execution_id=execution),
            retry_attempt=attempt,
        )
        attempts[node_id].append(Task(identifier, _times(task)))
    by_parent: defaultdict[int | None, list[Node]] = defaultdict(list)
    for row, node_id, parent, node, metadata, dynamic in nodes:
        by_parent[parent].append(
            Node(
                NodeExecutionIdentifier(node_id=node_id, execution_id=execution),
                row,
                NodeExecutionClosure.FromString(node),
                NodeExecutionMetaData.FromString(metadata),
                dynamic,
                attempts.get(node_id, ()),
            )
        )
    return Run(execution, ExecutionClosure.FromString(closure), by_parent)


def _times(closure: bytes) -> TaskExecutionClosure:
    """Return the times of an attempt alone: all else of a closure may take many times its bytes."""
    whole = TaskExecutionClosure.FromString(closure)
    times = TaskExecutionClosure()
    for name in ("created_at", "started_at", "updated_at", "duration"):
        if whole.HasField(name):
            getattr(times, name).CopyFrom(getattr(whole, name))
    return times
