"""The inputs of the state machine of an execution: results of its actions, and what else happens to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.catalog_pb2 import CatalogMetadata
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError, TaskLog, WorkflowExecution
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.core.literals_pb2 import Literal, LiteralMap

from deploy.sandbox.engine.graph.interface import TaskKey


@dataclass(frozen=True)
class Begin:
    """The first input."""


@dataclass(frozen=True)
class TaskWaiting:
    """An attempt waits, for cores or memory of the machine: reported as a reason. Optional."""

    key: TaskKey
    reason: str


@dataclass(frozen=True)
class TaskStarted:
    """The process of an attempt runs. Its timeout counts from here. May come again, with other logs or reason."""

    key: TaskKey
    logs: Sequence[TaskLog] = ()
    reason: str = ""


@dataclass(frozen=True)
class TaskFinished:
    """An attempt ended: with outputs, with a dynamic job spec, or with an error. Exactly one of the three is set."""

    key: TaskKey
    outputs: LiteralMap | None = None
    futures: DynamicJobSpec | None = None
    error: ExecutionError | None = None
    """Errors of the kind USER use up the retries of the node, those of the kind SYSTEM the engine's own."""
    recoverable: bool = False
    """Whether the error allows another attempt (`ContainerError.kind`, or how the process ended)."""
    deck: bool = False
    """Whether deck.html is there."""
    logs: Sequence[TaskLog] = ()


@dataclass(frozen=True)
class ChildStarted:
    """A child execution exists."""

    key: TaskKey


@dataclass(frozen=True)
class ChildFinished:
    """A child execution ended (`phase` is terminal), or could not be created (FAILED, with the reason as `error`)."""

    key: TaskKey
    phase: WorkflowExecution.Phase
    outputs: LiteralMap | None = None
    error: ExecutionError | None = None


@dataclass(frozen=True)
class SignalArrived:
    """A signal has a value."""

    node_id: str
    value: Literal


@dataclass(frozen=True)
class CacheLookedUp:
    """The result of `LookUpCache`: `outputs` is None when the cache has none."""

    key: TaskKey
    outputs: LiteralMap | None = None
    metadata: CatalogMetadata | None = None
    failed: bool = False
    """The cache could not be read; the task runs."""


@dataclass(frozen=True)
class CacheStored:
    """The result of `StoreCache`; `metadata` is None if it failed."""

    key: TaskKey
    metadata: CatalogMetadata | None = None


@dataclass(frozen=True)
class RecoveredLookedUp:
    """A node of the reference execution. The node runs unless it was SUCCEEDED or RECOVERED there."""

    node_id: str
    phase: int = 0
    """A `NodeExecution.Phase`; UNDEFINED if the reference execution has no such node."""
    outputs: LiteralMap | None = None
    dynamic_workflow: CompiledWorkflowClosure | None = None
    dynamic_job_spec_uri: str = ""
    child: WorkflowExecutionIdentifier | None = None
    """The child execution of a launch plan node."""
    checkpoint_uri: str = ""
    """Where a task node that did not succeed kept its checkpoint."""
    futures: DynamicJobSpec | None = None
    """Of a dynamic node that did not succeed, although its task did."""


@dataclass(frozen=True)
class LaunchPlansFetched:
    """The launch plans that exist."""

    node_id: str
    launch_plans: Sequence[LaunchPlan]


@dataclass(frozen=True)
class TimePassed:
    """`wake_at` has come."""


@dataclass(frozen=True)
class Abort:
    """The execution is terminated."""

    cause: str


@dataclass(frozen=True)
class FailNode:
    """The control plane refuses a node's event permanently (too large, invalid): the node fails with `error`."""

    node_id: str
    error: ExecutionError


@dataclass(frozen=True)
class FailRun:
    """The execution cannot go on: it fails with `error`."""

    error: ExecutionError


@dataclass(frozen=True)
class Done:
    """A numbered action is done."""

    number: int


Input: TypeAlias = (
    Begin
    | TaskWaiting
    | TaskStarted
    | TaskFinished
    | ChildStarted
    | ChildFinished
    | SignalArrived
    | CacheLookedUp
    | CacheStored
    | RecoveredLookedUp
    | LaunchPlansFetched
    | TimePassed
    | Abort
    | FailNode
    | FailRun
    | Done
)
