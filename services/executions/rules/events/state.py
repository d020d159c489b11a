"""Stored state as the folds of events use it: Flyte's closures and the columns that rules need.

A fold never changes the state that it receives; it returns a new one. Columns that only repeat a part of the closure
(phase, times, error) are derived from it when the row is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure, NodeExecutionMetaData
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.identifier_pb2 import Identifier, NodeExecutionIdentifier, WorkflowExecutionIdentifier


class ExecutionKey(NamedTuple):
    """Natural key of an execution."""

    project: str
    domain: str
    name: str


class NodeKey(NamedTuple):
    """Natural key of a node execution."""

    execution: ExecutionKey
    node_id: str


class TaskKey(NamedTuple):
    """Natural key of a task execution."""

    node: NodeKey
    project: str
    domain: str
    name: str
    version: str
    retry_attempt: int


def execution_key(identifier: WorkflowExecutionIdentifier) -> ExecutionKey:
    """Return the key of the execution that `identifier` names."""
    return ExecutionKey(identifier.project, identifier.domain, identifier.name)


def node_key(identifier: NodeExecutionIdentifier) -> NodeKey:
    """Return the key of the node execution that `identifier` names."""
    return NodeKey(execution_key(identifier.execution_id), identifier.node_id)


def task_key(node: NodeExecutionIdentifier, task: Identifier, retry_attempt: int) -> TaskKey:
    """Return the key of the attempt `retry_attempt` of `task` at `node`."""
    return TaskKey(node_key(node), task.project, task.domain, task.name, task.version, retry_attempt)


@dataclass(frozen=True, slots=True)
class ExecutionState:
    """An execution that a workflow event may change."""

    key: ExecutionKey
    cluster: str
    closure: ExecutionClosure
    spec: bytes = b""  # admin.ExecutionSpec; empty unless an event of the batch may assign another cluster


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node execution.

    `event_version`, `parent_id` and `parent_task_id` are those of a new row, which keeps them; they are not read back.
    The last two are row ids, None at the top level.
    """

    key: NodeKey
    closure: NodeExecutionClosure
    metadata: NodeExecutionMetaData
    input_uri: str = ""
    dynamic_closure_uri: str = ""
    event_version: int = 0
    parent_id: int | None = None
    parent_task_id: int | None = None


@dataclass(frozen=True, slots=True)
class ResourceChunks:
    """External resources that are stored outside the closure.

    Attributes:
        data: Serialized chunks by number: those that the events of the batch may change, or all when `whole`.
        unsaved: The numbers of the chunks that differ from their rows.
        whole: Whether `data` has all chunks of the task.
        pending: The numbers of the chunks whose logs are filtered for a pending task already.
    """

    data: Mapping[int, bytes]
    unsaved: frozenset[int] = frozenset()
    whole: bool = False
    pending: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class TaskState:
    """One attempt of a task at a node; without `chunks` all external resources are in the closure."""

    key: TaskKey
    closure: TaskExecutionClosure
    phase_version: int = 0
    input_uri: str = ""
    chunks: ResourceChunks | None = None


@dataclass(frozen=True, slots=True)
class Offload:
    """An object that must be written before the state that names it is committed."""

    uri: str
    data: bytes


@dataclass
class Offloads:
    """The objects that must be written for one event."""

    objects: list[Offload] = field(default_factory=list)

    def add(self, uri: str, data: bytes) -> str:
        """Add the object `data` at `uri` and return the URI."""
        self.objects.append(Offload(uri, data))
        return uri
