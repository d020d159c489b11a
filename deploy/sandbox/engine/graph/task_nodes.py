"""Task nodes: the attempts of a task, and the nodes that a dynamic task returns."""

from collections.abc import Sequence
from typing import Any

from flyteidl.core.catalog_pb2 import CACHE_DISABLED
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution, TaskLog
from flyteidl.core.literals_pb2 import LiteralMap
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.event.event_pb2 import TaskNodeMetadata

from deploy.sandbox.engine.graph.attempt_reports import CHECKPOINTS, CacheResult, Place
from deploy.sandbox.engine.graph.attempts import Attempts
from deploy.sandbox.engine.graph.dynamic_nodes import DynamicNodes
from deploy.sandbox.engine.graph.events import task_event
from deploy.sandbox.engine.graph.library import task_policy
from deploy.sandbox.engine.graph.node import Node
from deploy.sandbox.engine.graph.node_ids import raw_outputs
from services.contracts.identifiers import key_of

_SUBMITTED = "task submitted"


class TaskNode:
    """A task node; it reports its attempts and, once the task returned nodes, itself as dynamic."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._attempts: Attempts | None = None
        self._template = TaskTemplate()
        self._version = 0
        self._task_phase: TaskExecution.Phase = TaskExecution.UNDEFINED
        self._interruptible = False
        self._dynamic: DynamicNodes | None = None

    def begin(self) -> None:
        """Find the task and run it."""
        node = self._node
        reference = node.spec.task_node.reference_id
        template = node.around.library.tasks.get(key_of(reference))
        if template is None:
            message = f"failed to find task [{reference.name}]"
            node.fail(ExecutionError(code="BadSpecificationError", message=message, kind=ExecutionError.SYSTEM))
            return
        policy = task_policy(node.spec, template, node.runtime.run, node.around.interruptible)
        self._template = policy.template
        if policy.template.metadata.is_eager:
            node.flags["is_eager"] = True
        self._attempts = Attempts(node.runtime, policy, self._place(), node.inputs, self)
        if node.recovered is not None and node.recovered.futures is not None:
            node.flags["is_dynamic"] = True
            node.emit(NodeExecution.RUNNING)
            self._attempts.resume_futures(node.recovered.futures)
        else:
            self._attempts.begin()

    def _place(self) -> Place:
        node, run = self._node, self._node.runtime.run

        def raw_output_prefix(attempt: int) -> str:
            return f"{run.raw_output_prefix}/{raw_outputs(node.node_id, attempt)}"

        return Place(
            node_id=node.node_id,
            index=-1,
            input_uri=node.input_uri,
            output_prefix=node.output_prefix,
            raw_output_prefix=raw_output_prefix,
            previous_checkpoint=node.recovered.checkpoint_uri if node.recovered else "",
        )

    def abort(self, reason: str) -> None:
        """End the attempt or the nodes that it returned."""
        if self._dynamic is not None:
            self._dynamic.abort(reason)
        if self._attempts is not None:
            self._attempts.abort(reason)

    # ---- Reports of the attempts

    def queued(self) -> None:
        """Report the node QUEUED."""
        self._node.queue()

    def started(self, attempt: int, interruptible: bool) -> None:
        """Report the attempt QUEUED, and the node RUNNING after its first one."""
        self._interruptible = interruptible
        self._task_phase = TaskExecution.UNDEFINED
        self._emit(attempt, TaskExecution.QUEUED, reason=_SUBMITTED)
        if self._node.phase == NodeExecution.QUEUED:
            self._node.emit(NodeExecution.RUNNING, task_node_metadata=self._metadata(attempt))

    def waiting(self, attempt: int, reason: str) -> None:
        """Report the reason."""
        if self._task_phase == TaskExecution.QUEUED:
            self._emit(attempt, TaskExecution.QUEUED, reason=reason)

    def running(self, attempt: int, logs: Sequence[TaskLog], reason: str) -> None:
        """Report the attempt RUNNING."""
        self._emit(attempt, TaskExecution.RUNNING, reason=reason, logs=logs)

    def attempt_succeeded(self, attempt: int, logs: Sequence[TaskLog]) -> None:
        """Report the attempt SUCCEEDED."""
        self._emit(attempt, TaskExecution.SUCCEEDED, logs=logs, output_uri=self._node.output_uri(attempt))

    def attempt_failed(self, attempt: int, error: ExecutionError, logs: Sequence[TaskLog]) -> None:
        """Report the attempt FAILED; the node stays RUNNING if another one follows."""
        self._emit(attempt, TaskExecution.FAILED, logs=logs, error=error)

    def attempt_aborted(self, attempt: int, reason: str) -> None:
        """Report the attempt ABORTED."""
        self._emit(attempt, TaskExecution.ABORTED, error=ExecutionError(code="Task Aborted", message=reason))

    def succeeded(self, attempt: int, outputs: LiteralMap, cache: CacheResult, *, deck: bool, stored: bool) -> None:
        """Report the node SUCCEEDED."""
        uri = self._node.output_uri(attempt)
        if not stored:
            self._node.runtime.store(uri, outputs)
        metadata = self._metadata(attempt, cache)
        self._node.succeed(outputs, uri, task_node_metadata=metadata, deck_uri=self._deck_uri(attempt, deck))

    def failed(self, attempt: int, error: ExecutionError, *, deck: bool) -> None:
        """Report the node FAILED."""
        self._node.fail(error, task_node_metadata=self._metadata(attempt), deck_uri=self._deck_uri(attempt, deck))

    def timed_out(self, attempt: int) -> None:
        """Report the node TIMED_OUT."""
        self._node.time_out(task_node_metadata=self._metadata(attempt))

    def _emit(self, attempt: int, phase: TaskExecution.Phase, **fields: Any) -> None:
        node = self._node
        self._version = self._version + 1 if phase == self._task_phase else 0
        self._task_phase = phase
        event = task_event(
            node.identifier,
            self._template,
            attempt,
            phase,
            version=self._version,
            at=node.runtime.at,
            interruptible=self._interruptible,
            input_uri=node.input_uri,
            **fields,
        )
        node.runtime.emit(event)

    def _metadata(self, attempt: int, cache: CacheResult | None = None) -> TaskNodeMetadata:
        metadata = TaskNodeMetadata(checkpoint_uri=f"{self._node.output_prefix(attempt)}/{CHECKPOINTS}")
        if cache is not None and cache.status != CACHE_DISABLED:
            metadata.cache_status = cache.status
            if cache.metadata is not None:
                metadata.catalog_key.CopyFrom(cache.metadata)
        return metadata

    def _deck_uri(self, attempt: int, deck: bool) -> str:
        return f"{self._node.output_prefix(attempt)}/deck.html" if deck else ""

    def futures(self, attempt: int, spec: DynamicJobSpec) -> None:
        """Run the nodes that the task returned."""
        if self._attempts is not None:
            self._dynamic = DynamicNodes(self._node, self._template, self._attempts)
            self._dynamic.begin(attempt, spec)
