"""Items of array nodes: each a task or a child execution, reported as an external resource."""

from collections.abc import Callable, Sequence
from typing import Protocol

from flyteidl.core.catalog_pb2 import CACHE_DISABLED, CatalogCacheStatus
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError, TaskExecution, TaskLog, WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.event.event_pb2 import ExternalResourceInfo, WorkflowNodeMetadata

from deploy.sandbox.engine.graph.attempt_reports import CacheResult, Place
from deploy.sandbox.engine.graph.attempts import Attempts
from deploy.sandbox.engine.graph.child_nodes import abort_cause, child_error, child_of
from deploy.sandbox.engine.graph.inputs import ChildFinished, ChildStarted
from deploy.sandbox.engine.graph.interface import ArrayItem, StartChild, TaskKey
from deploy.sandbox.engine.graph.library import TaskPolicy
from deploy.sandbox.engine.graph.node import Node
from deploy.sandbox.engine.graph.node_ids import Parent, generated_name, raw_outputs, unique_id

# Array nodes are never retried, their items are.
_ARRAY_ATTEMPT = 0


class Array(Protocol):
    """What an item reports to."""

    def changed(self, resource: ExternalResourceInfo) -> None:
        """Note that an item is in another phase."""

    def item_ended(self, item: "Item") -> None:
        """Note that an item has ended, and was not aborted."""


class Item(Protocol):
    """An item of an array node."""

    index: int
    outputs: LiteralMap
    error: ExecutionError | None

    def begin(self) -> None:
        """Start."""

    def abort(self, reason: str) -> None:
        """End what runs for the item."""

    def resource(self, phase: TaskExecution.Phase) -> ExternalResourceInfo:
        """Return the external resource of the current attempt in a phase."""

    def last_resource(self) -> ExternalResourceInfo:
        """Return the external resource in the current phase, without logs."""


class ItemState:
    """The number, the phase and the result of an item."""

    def __init__(self, node: Node, array: Array, index: int) -> None:
        self.node = node
        self.array = array
        self.index = index
        self.outputs = LiteralMap()
        self.error: ExecutionError | None = None
        self.attempt = 0
        self.phase: TaskExecution.Phase = TaskExecution.UNDEFINED
        self.cache_status: CatalogCacheStatus = CACHE_DISABLED

    def resource(self, phase: TaskExecution.Phase) -> ExternalResourceInfo:
        """Return the external resource of the current attempt in a phase."""
        execution = self.node.runtime.run.execution.name
        name = generated_name(execution, self.node.node_id, self.attempt)
        return ExternalResourceInfo(
            external_id=f"{name}-n{self.index}-{self.attempt}",
            index=self.index,
            retry_attempt=self.attempt,
            phase=phase,
            cache_status=self.cache_status,
        )

    def last_resource(self) -> ExternalResourceInfo:
        """Return the external resource in the current phase, without logs."""
        return self.resource(self.phase)

    def change(self, phase: TaskExecution.Phase, logs: Sequence[TaskLog] = ()) -> None:
        """Change the phase and report it."""
        self.phase = phase
        resource = self.resource(phase)
        for log in logs:
            resource.logs.add().CopyFrom(log)
            resource.logs[-1].name = f"{log.name}-{self.index}"
        self.array.changed(resource)


class TaskItem(ItemState):
    """An item that is a task; it reports its attempts to the array.

    Args:
        inputs: Returns its inputs: those of all items would fill the memory.
        single_input: Whether all items read the inputs of the array.
    """

    def __init__(
        self,
        node: Node,
        array: Array,
        item: ArrayItem,
        inputs: Callable[[], LiteralMap],
        policy: TaskPolicy,
        *,
        single_input: bool,
    ) -> None:
        super().__init__(node, array, item.index)
        self._item = item
        self._inputs = inputs
        self._policy = policy
        self._single_input = single_input
        self._attempts: Attempts | None = None

    @property
    def _folder(self) -> str:
        return f"{self.node.output_prefix(_ARRAY_ATTEMPT)}/{self.index}"

    def begin(self) -> None:
        """Look the item up in the cache, or run its task."""
        inputs, runtime = self._inputs(), self.node.runtime
        input_uri = self.node.input_uri
        if not self._single_input:
            input_uri = f"{self._folder}/inputs.pb"
            runtime.store(input_uri, inputs)
        raw, folder = runtime.run.raw_output_prefix, self._folder
        place = Place(
            node_id=self.node.node_id,
            index=self.index,
            input_uri=input_uri,
            output_prefix=lambda attempt: f"{folder}/{attempt}",
            raw_output_prefix=lambda attempt: f"{raw}/{raw_outputs(self.node.node_id, attempt, self.index)}",
            array=self._item,
        )
        self._attempts = Attempts(runtime, self._policy, place, inputs, self)
        self._attempts.begin()

    def abort(self, reason: str) -> None:
        """End the attempt."""
        if self._attempts is not None:
            self._attempts.abort(reason)

    def queued(self) -> None:
        """Report nothing: the item was reported with all others."""

    def started(self, attempt: int, interruptible: bool) -> None:  # noqa: ARG002  # resources have no instance class
        """Report the attempt QUEUED."""
        self.attempt = attempt
        self.change(TaskExecution.QUEUED)

    def waiting(self, attempt: int, reason: str) -> None:
        """Report nothing: external resources have no reasons."""

    def running(self, attempt: int, logs: Sequence[TaskLog], reason: str) -> None:  # noqa: ARG002  # as above
        """Report the attempt RUNNING."""
        self.change(TaskExecution.RUNNING, logs)

    def attempt_succeeded(self, attempt: int, logs: Sequence[TaskLog]) -> None:
        """Report nothing yet: the outputs go into the cache first."""

    def attempt_failed(self, attempt: int, error: ExecutionError, logs: Sequence[TaskLog]) -> None:  # noqa: ARG002
        """Report the attempt FAILED."""
        self.change(TaskExecution.FAILED, logs)

    def attempt_aborted(self, attempt: int, reason: str) -> None:  # noqa: ARG002  # resources have no reasons
        """Report the attempt ABORTED."""
        self.change(TaskExecution.ABORTED)

    def futures(self, attempt: int, spec: DynamicJobSpec) -> None:  # noqa: ARG002  # it is not run
        """Fail: flytepropeller does not run nodes that a mapped task returns either."""
        message = "a map task cannot return nodes to run"
        error = ExecutionError(code="BadSpecificationError", message=message, kind=ExecutionError.USER)
        if self._attempts is not None:
            self._attempts.give_up(error)

    def succeeded(self, attempt: int, outputs: LiteralMap, cache: CacheResult, *, deck: bool, stored: bool) -> None:
        """End with `outputs`; there is no deck of an item."""
        del deck
        self.outputs, self.cache_status = outputs, cache.status
        if not stored:
            self.node.runtime.store(f"{self._folder}/{attempt}/outputs.pb", outputs)
        self.change(TaskExecution.SUCCEEDED)
        self._end()

    def failed(self, attempt: int, error: ExecutionError, *, deck: bool) -> None:  # noqa: ARG002  # as above
        """End with an error."""
        self._fail(error)

    def timed_out(self, attempt: int) -> None:  # noqa: ARG002  # it is the current one
        """End with an error."""
        self._fail(ExecutionError(code="Timeout", message="Timeout in node", kind=ExecutionError.USER))

    def _fail(self, error: ExecutionError) -> None:
        self.error = error
        if self.phase not in {TaskExecution.FAILED, TaskExecution.ABORTED}:
            self.change(TaskExecution.FAILED)
        self._end()

    def _end(self) -> None:
        self._attempts = None  # it has the inputs
        self.array.item_ended(self)


class ChildItem(ItemState):
    """An item that is a child execution."""

    def __init__(
        self, node: Node, array: Array, index: int, launch_plan: Identifier, inputs: Callable[[], LiteralMap]
    ) -> None:
        super().__init__(node, array, index)
        self._launch_plan = launch_plan
        self._inputs = inputs
        self._key = TaskKey(node.node_id, 0, index)
        own_id = unique_id(Parent(node.node_id, _ARRAY_ATTEMPT), f"n{index}")
        self._child = child_of(node.runtime.run.execution, own_id, 0)

    def resource(self, phase: TaskExecution.Phase) -> ExternalResourceInfo:
        """Return the external resource with the child execution."""
        resource = super().resource(phase)
        if self.phase != TaskExecution.UNDEFINED:
            resource.workflow_node_metadata.CopyFrom(WorkflowNodeMetadata(execution_id=self._child))
        return resource

    def begin(self) -> None:
        """Create the child execution."""
        action = StartChild(self._key, self._child, self._launch_plan, self._inputs())
        self.node.runtime.expect(action, self._key, self._result)

    def _result(self, result: ChildStarted | ChildFinished) -> None:
        if isinstance(result, ChildStarted):
            if self.phase == TaskExecution.UNDEFINED:
                self.change(TaskExecution.RUNNING)
            return
        self.node.runtime.forget(StartChild, self._key)
        if result.phase == WorkflowExecution.SUCCEEDED:
            self.outputs = result.outputs or LiteralMap()
            self.change(TaskExecution.SUCCEEDED)
        else:
            self.error = child_error(result, self._child)
            self.change(TaskExecution.FAILED)
        self.array.item_ended(self)

    def abort(self, reason: str) -> None:
        """Terminate the child."""
        runtime = self.node.runtime
        if runtime.forget(StartChild, self._key):
            runtime.stop_child(self._child, abort_cause(runtime.run.execution, reason))
            self.change(TaskExecution.ABORTED)
