"""What the state machine of an execution receives and what it asks for.

`Execution.handle(input, at)` takes one input and returns actions. The runner carries actions out and passes the results
in as inputs. Rules for the runner:

1. An input is written to the journal, with its time, before `handle` is called with it.
2. Actions are carried out in their order. `Store` is done before any later action begins. `Emit`s of a node are sent
   one after the other, and after those of the node that contains it; those of the workflow after all before them, and
   before all after them (`event_order`). Other actions need not wait for events, except `StartChild`, `WaitForSignal`
   and `Finish`: they need what the events before them create.
3. `Store`, `Emit` and `StopChild` have a number. When one is done, `Done` with the number is passed in, and so
   journaled.
4. Other actions have a result, which comes back as an input, or none (`CancelTask`, `ReleaseCache`, `Finish`). Results
   of what was cancelled, or of what has a result already, are ignored.
5. After a restart, `resume` replays the journal and returns the actions to carry out again: numbered ones that are not
   done, and all others whose results have not arrived. A task may have ended meanwhile, so the runner looks for its
   outputs and errors first, and ends what is left of its processes before it runs it again.
6. `TimePassed` is passed in when `wake_at` has come.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.catalog_pb2 import CatalogMetadata
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError, TaskLog, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, SignalIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.interface_pb2 import TypedInterface
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent


def _unchanged(template: TaskTemplate) -> TaskTemplate:
    return template


@dataclass(frozen=True)
class Run:
    """An execution to run; nothing of it changes while it runs, nor after a restart."""

    execution: WorkflowExecutionIdentifier
    closure: CompiledWorkflowClosure
    inputs: LiteralMap
    """The completed inputs."""
    data_prefix: str
    """The URI below which data of nodes is stored, without a slash at the end:
    `<store>/metadata/propeller/<project>-<domain>-<execution>`."""
    raw_output_prefix: str
    """The URI below which tasks of this execution, and of no other, store raw outputs; without a slash at the end."""
    config: WorkflowExecutionConfig = field(default_factory=WorkflowExecutionConfig)
    """Maximum parallelism, interruptible, overwrite_cache. The other fields are the runner's."""
    recovers: WorkflowExecutionIdentifier | None = None
    """The reference execution of an execution in mode RECOVERED."""
    prepare: Callable[[TaskTemplate], TaskTemplate] = _unchanged
    """Returns the template that runs: resources and queue of containers (engine.md#task-resources). It is called with
    the overrides of the node in place, and must always return the same for the same template."""


@dataclass(frozen=True, order=True)
class TaskKey:
    """An attempt of a task: of a node, or of one item of an array node."""

    node_id: str
    """The unique id of the node (engine.md#node-ids)."""
    attempt: int = 0
    index: int = -1
    """Of the item of an array node, else -1."""


# ---- Actions

Event: TypeAlias = WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent


@dataclass(frozen=True)
class Emit:
    """Send an event. Numbered."""

    number: int
    event: Event


@dataclass(frozen=True)
class Store:
    """Store values at a URI: inputs of a node, or outputs that no task stores. Numbered."""

    number: int
    uri: str
    values: LiteralMap


@dataclass(frozen=True)
class ArrayItem:
    """The place of a task in an array node."""

    index: int
    size: int


@dataclass(frozen=True)
class StartTask:
    """Run an attempt of a task. Results: `TaskWaiting`, `TaskStarted`, at last `TaskFinished`.

    The task writes outputs.pb, futures.pb, error.pb and deck.html to `output_prefix`. If it leaves no outputs.pb and
    has no outputs, the runner writes an empty one.
    """

    key: TaskKey
    template: TaskTemplate
    """Prepared, with the overrides of its node."""
    inputs: LiteralMap
    """The values of `{{.inputs.x}}`: of an item of an array node its own."""
    input_uri: str
    """`{{.input}}`: for array nodes with a single input file that of the whole array."""
    output_prefix: str
    raw_output_prefix: str
    checkpoint_prefix: str
    previous_checkpoint_prefix: str
    """"" for the first attempt."""
    interruptible: bool
    array: ArrayItem | None = None


@dataclass(frozen=True)
class CancelTask:
    """End an attempt and all of its processes; later actions begin when they are gone. No result."""

    key: TaskKey


@dataclass(frozen=True)
class StartChild:
    """Create a child execution of a launch plan node. Results: `ChildStarted`, at last `ChildFinished`.

    One that exists with this name is the child: an earlier try created it.
    """

    key: TaskKey
    """`attempt` is that of the node; of an array node also the index."""
    child: WorkflowExecutionIdentifier
    launch_plan: Identifier
    inputs: LiteralMap
    recovers: WorkflowExecutionIdentifier | None = None
    """The child of the reference execution: create by RecoverExecution from it."""


@dataclass(frozen=True)
class StopChild:
    """Terminate a child execution, after a `StartChild` of it that is under way. Numbered.

    One that does not exist or has ended is done.
    """

    number: int
    child: WorkflowExecutionIdentifier
    cause: str


@dataclass(frozen=True)
class WaitForSignal:
    """Create a signal (GetOrCreateSignal) and wait for its value. Result: `SignalArrived`."""

    node_id: str
    signal: SignalIdentifier
    type: LiteralType


@dataclass(frozen=True)
class CacheKey:
    """What outputs of a task in the cache depend on; the version of the task does not count."""

    task: Identifier
    cache_version: str
    interface: TypedInterface
    inputs: LiteralMap
    """Without the ignored variables."""


@dataclass(frozen=True)
class LookUpCache:
    """Look outputs up in the cache. Result: `CacheLookedUp`.

    With `serialize`, another task may hold the reservation of the key: the result comes when it is released, with the
    outputs that it stored, or when this task has the reservation. It is released by `StoreCache` or `ReleaseCache`.
    """

    key: TaskKey
    cache_key: CacheKey
    serialize: bool


@dataclass(frozen=True)
class StoreCache:
    """Store the outputs of a succeeded task in the cache; release its reservation. Result: `CacheStored`."""

    key: TaskKey
    cache_key: CacheKey
    outputs: LiteralMap
    overwrite: bool


@dataclass(frozen=True)
class ReleaseCache:
    """Release the reservation of a task that did not succeed. No result."""

    key: TaskKey
    cache_key: CacheKey


@dataclass(frozen=True)
class LookUpRecovered:
    """Read a node of the reference execution, with the same unique id. Result: `RecoveredLookedUp`."""

    node_id: str


@dataclass(frozen=True)
class FetchLaunchPlans:
    """Read launch plans that a dynamic task refers to. Result: `LaunchPlansFetched`."""

    node_id: str
    launch_plans: Sequence[Identifier]


@dataclass(frozen=True)
class Finish:
    """The execution has ended: the run is over when all numbered actions are done."""

    phase: WorkflowExecution.Phase
    error: ExecutionError | None = None


Action: TypeAlias = (
    Emit
    | Store
    | StartTask
    | CancelTask
    | StartChild
    | StopChild
    | WaitForSignal
    | LookUpCache
    | StoreCache
    | ReleaseCache
    | LookUpRecovered
    | FetchLaunchPlans
    | Finish
)


# ---- Inputs


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

__all__ = [
    "Abort",
    "Action",
    "ArrayItem",
    "Begin",
    "CacheKey",
    "CacheLookedUp",
    "CacheStored",
    "CancelTask",
    "ChildFinished",
    "ChildStarted",
    "Done",
    "Emit",
    "Event",
    "FailNode",
    "FailRun",
    "FetchLaunchPlans",
    "Finish",
    "Input",
    "LaunchPlansFetched",
    "LookUpCache",
    "LookUpRecovered",
    "RecoveredLookedUp",
    "ReleaseCache",
    "Run",
    "SignalArrived",
    "StartChild",
    "StartTask",
    "StopChild",
    "Store",
    "StoreCache",
    "TaskFinished",
    "TaskKey",
    "TaskStarted",
    "TaskWaiting",
    "TimePassed",
    "WaitForSignal",
]
