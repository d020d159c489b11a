"""What the state machine of an execution runs, and the actions that it asks for.

`Execution.handle(input, at)` takes one input (`inputs`) and returns actions. The runner carries actions out and passes
the results in as inputs. Rules for the runner:

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

from flyteidl.admin.matchable_resource_pb2 import WorkflowExecutionConfig
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.execution_pb2 import ExecutionError, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, SignalIdentifier, WorkflowExecutionIdentifier
from flyteidl.core.interface_pb2 import TypedInterface
from flyteidl.core.literals_pb2 import LiteralMap
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
    `<store>/metadata/propeller/<project>/<domain>/<execution>`. No other execution has it."""
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
