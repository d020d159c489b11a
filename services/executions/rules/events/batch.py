"""The fold of a whole batch of events, in order, over the rows that it needs.

`rows_needed` returns which rows these are; `fold_batch` folds over them and updates them in place. Each event is
applied or refused on its own: a refusal does not affect the others, and later events see the effects of earlier ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, WorkflowExecutionIdentifier
from flyteidl.event.event_pb2 import NodeExecutionEvent, TaskExecutionEvent, WorkflowExecutionEvent
from google.protobuf.message import DecodeError

from services.contracts.event_batches import BatchedEvent
from services.contracts.event_parts import REQUESTS, check_parts
from services.contracts.identifiers import check_task_execution_identifier, identifier_text
from services.executions.rules.events import node as nodes
from services.executions.rules.events import task as tasks
from services.executions.rules.events.layout import ObjectLayout
from services.executions.rules.events.phase_counts import PhaseCounts
from services.executions.rules.events.state import (
    ExecutionKey,
    ExecutionState,
    NodeKey,
    NodeState,
    Offload,
    Offloads,
    TaskKey,
    TaskState,
    execution_key,
    node_key,
    task_key,
)
from services.executions.rules.events.verdicts import check_producer
from services.executions.rules.events.workflow import fold_workflow, reassigns
from services.kit.errors import Internal, InvalidArgument, NotFound, ResourceExhausted, ServiceError

State = TypeVar("State")

# Events of this size have no more parts than an event may have.
_MOST_UNCHECKED_BYTES = 64 * 1024

Event = WorkflowExecutionEvent | NodeExecutionEvent | TaskExecutionEvent


def read_event(batched: BatchedEvent) -> Event | ServiceError:
    """Parse one event of a batch; return the error that becomes its outcome when it cannot be parsed.

    So does one with too many parts: the events service refuses these, but an earlier release, or `replay`, did not.
    """
    try:
        request_type = REQUESTS[batched.kind]
        if len(batched.body) > _MOST_UNCHECKED_BYTES:
            check_parts(request_type.DESCRIPTOR, batched.body)  # type: ignore[arg-type]  # both types of descriptors
        return request_type.FromString(batched.body).event
    except DecodeError:
        return InvalidArgument("the event cannot be parsed")
    except ResourceExhausted as error:
        return error.with_traceback(None)


@dataclass
class RowsNeeded:
    """The rows that a batch needs.

    Attributes:
        executions: Those that a workflow event may change: their states, with the spec if True.
        referenced: Those that events of nodes or tasks name and no workflow event does: whether they exist, and their
            clusters.
        children: Those of `referenced` that a node launched.
        nodes: Their row ids, and their states if True.
        tasks: The same of task attempts.
        task_events: The events of each attempt, which decide which of its chunks are needed.
        counted: Executions whose numbers of nodes and tasks by phase are needed.
    """

    executions: dict[ExecutionKey, bool] = field(default_factory=dict)
    referenced: set[ExecutionKey] = field(default_factory=set)
    children: set[ExecutionKey] = field(default_factory=set)
    nodes: dict[NodeKey, bool] = field(default_factory=dict)
    tasks: dict[TaskKey, bool] = field(default_factory=dict)
    task_events: dict[TaskKey, list[TaskExecutionEvent]] = field(default_factory=dict)
    counted: set[ExecutionKey] = field(default_factory=set)


@dataclass
class Rows:
    """Rows that exist, and ids reserved for those that do not."""

    executions: dict[ExecutionKey, ExecutionState] = field(default_factory=dict)
    clusters: dict[ExecutionKey, str] = field(default_factory=dict)
    nodes: dict[NodeKey, NodeState] = field(default_factory=dict)
    node_ids: dict[NodeKey, int] = field(default_factory=dict)
    tasks: dict[TaskKey, TaskState] = field(default_factory=dict)
    task_ids: dict[TaskKey, int] = field(default_factory=dict)
    free_node_ids: list[int] = field(default_factory=list)
    free_task_ids: list[int] = field(default_factory=list)
    counts: dict[ExecutionKey, PhaseCounts] = field(default_factory=dict)

    def add(self, other: "Rows") -> None:
        """Add the rows of `other`; they replace those that are here."""
        self.executions |= other.executions
        self.clusters |= other.clusters
        self.nodes |= other.nodes
        self.node_ids |= other.node_ids
        self.tasks |= other.tasks
        self.task_ids |= other.task_ids
        self.free_node_ids += other.free_node_ids
        self.free_task_ids += other.free_task_ids
        self.counts |= other.counts


@dataclass
class Changes:
    """The rows to write, and the outcome of each event, in the order of the batch: an error, or None for OK."""

    outcomes: list[ServiceError | None] = field(default_factory=list)
    executions: dict[ExecutionKey, ExecutionState] = field(default_factory=dict)
    new_nodes: dict[int, NodeState] = field(default_factory=dict)
    nodes: dict[int, NodeState] = field(default_factory=dict)
    new_tasks: dict[int, TaskState] = field(default_factory=dict)
    tasks: dict[int, TaskState] = field(default_factory=dict)
    counts: dict[ExecutionKey, PhaseCounts] = field(default_factory=dict)
    offloads: list[Offload] = field(default_factory=list)


def rows_needed(events: Sequence[Event | ServiceError]) -> RowsNeeded:
    """Return the rows that `events` read or change."""
    needed = RowsNeeded()
    for event in events:
        if isinstance(event, WorkflowExecutionEvent):
            key = execution_key(event.execution_id)
            needed.executions[key] = needed.executions.get(key, False) or reassigns(event)
        elif isinstance(event, NodeExecutionEvent):
            _add_node_event(needed, event)
        elif isinstance(event, TaskExecutionEvent):
            task = task_key(event.parent_node_execution_id, event.task_id, event.retry_attempt)
            needed.referenced.add(task.node.execution)
            needed.counted.add(task.node.execution)
            needed.nodes.setdefault(task.node, False)
            needed.tasks[task] = True
            needed.task_events.setdefault(task, []).append(event)
    needed.referenced -= needed.executions.keys()
    return needed


def _add_node_event(needed: RowsNeeded, event: NodeExecutionEvent) -> None:
    key = node_key(event.id)
    needed.referenced.add(key.execution)
    needed.counted.add(key.execution)
    needed.nodes[key] = True
    if event.parent_node_metadata.node_id:
        needed.nodes.setdefault(NodeKey(key.execution, event.parent_node_metadata.node_id), False)
    if event.parent_task_metadata.HasField("id"):
        needed.tasks.setdefault(_parent_task(event), False)
    if event.workflow_node_metadata.HasField("execution_id"):
        child = execution_key(event.workflow_node_metadata.execution_id)
        needed.referenced.add(child)
        needed.children.add(child)


def _parent_task(event: NodeExecutionEvent) -> TaskKey:
    identifier = event.parent_task_metadata.id
    return task_key(identifier.node_execution_id, identifier.task_id, identifier.retry_attempt)


def fold_batch(events: Sequence[Event | ServiceError], rows: Rows, layout: ObjectLayout) -> Changes:
    """Fold `events` over `rows`, which are updated in place.

    An error instead of an event (it could not be read) becomes its outcome. A failure that no rule foresees becomes
    Internal with the failure as its cause, for the log.
    """
    fold = BatchFold(rows, layout)
    for event in events:
        fold.apply(event)
    return fold.changes


class BatchFold:
    """The fold of a batch, event by event, as `fold_batch` does it: for a caller that pauses between two of them."""

    def __init__(self, rows: Rows, layout: ObjectLayout) -> None:
        self._rows = rows
        self._layout = layout
        self.changes = Changes()

    def apply(self, event: Event | ServiceError) -> None:
        """Fold the next event over the rows, which are updated in place; its outcome is the last in `changes`."""
        offloads = Offloads()
        outcome: ServiceError | None = None
        try:
            if isinstance(event, WorkflowExecutionEvent):
                self._workflow(event, offloads)
            elif isinstance(event, NodeExecutionEvent):
                self._node(event, offloads)
            elif isinstance(event, TaskExecutionEvent):
                self._task(event, offloads)
            else:
                outcome = event
        except ServiceError as error:
            # Its traceback refers to this frame and so back to the error: the cycle would hold the event in memory
            # until a garbage collection, gigabytes when large events are refused.
            outcome = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001  # one event must not fail the others; the applier logs it
            outcome = Internal("the event could not be applied")
            outcome.__cause__ = error
        self.changes.outcomes.append(outcome)
        if outcome is None:
            self.changes.offloads += offloads.objects

    def _workflow(self, event: WorkflowExecutionEvent, offloads: Offloads) -> None:
        key = execution_key(event.execution_id)
        stored = self._rows.executions.get(key)
        if stored is None:
            text = identifier_text(event.execution_id)
            raise NotFound(f"missing entity of type execution with identifier {text}")
        state = fold_workflow(stored, event, self._layout, offloads)
        if state is not stored:
            self._rows.executions[key] = self.changes.executions[key] = state

    def _check_execution(self, key: ExecutionKey, producer: str) -> None:
        changed = self._rows.executions.get(key)
        cluster = self._rows.clusters.get(key) if changed is None else changed.cluster
        if cluster is None:
            text = identifier_text(WorkflowExecutionIdentifier(**key._asdict()))
            raise NotFound(f"Failed to get existing execution id: [{text}]")
        check_producer(producer, cluster)

    def _node(self, event: NodeExecutionEvent, offloads: Offloads) -> None:
        key = node_key(event.id)
        self._check_execution(key.execution, event.producer_id)
        stored = self._rows.nodes.get(key)
        if stored is None:
            parent_task_id = self._parent_task_id(event)
            first = nodes.first_state(key, event, self._parent_id(event), parent_task_id)
            state = nodes.fold_node(first, event, self._layout, offloads, created=True)
            identifier = self._rows.node_ids[key] = self._rows.free_node_ids.pop(0)
            self.changes.new_nodes[identifier] = state
        else:
            nodes.check_transition(stored, event)
            self._check_child(event)
            state = nodes.fold_node(stored, event, self._layout, offloads)
            identifier = self._rows.node_ids[key]
            _replace(self.changes.new_nodes, self.changes.nodes, identifier, state)
        before, after = None if stored is None else stored.closure.phase, state.closure.phase
        if before != after:
            self._counts(key.execution).count_node_transition(before, after)
        self._rows.nodes[key] = state

    def _parent_id(self, event: NodeExecutionEvent) -> int | None:
        if not event.parent_node_metadata.node_id:
            return None
        parent = NodeKey(execution_key(event.id.execution_id), event.parent_node_metadata.node_id)
        identifier = self._rows.node_ids.get(parent)
        if identifier is None:
            missing = NodeExecutionIdentifier(node_id=parent.node_id, execution_id=event.id.execution_id)
            raise NotFound(f"Failed to get existing node execution id: [{identifier_text(missing)}]")
        return identifier

    def _parent_task_id(self, event: NodeExecutionEvent) -> int | None:
        if not event.parent_task_metadata.HasField("id"):
            return None
        check_task_execution_identifier(event.parent_task_metadata.id)
        identifier = self._rows.task_ids.get(_parent_task(event))
        if identifier is None:
            text = identifier_text(event.parent_task_metadata.id)
            raise NotFound(f"missing entity of type task execution with identifier {text}")
        return identifier

    def _check_child(self, event: NodeExecutionEvent) -> None:
        if event.workflow_node_metadata.HasField("execution_id"):
            child = execution_key(event.workflow_node_metadata.execution_id)
            if child not in self._rows.executions and child not in self._rows.clusters:
                text = identifier_text(event.workflow_node_metadata.execution_id)
                raise NotFound(f"missing entity of type execution with identifier {text}")

    def _task(self, event: TaskExecutionEvent, offloads: Offloads) -> None:
        key = task_key(event.parent_node_execution_id, event.task_id, event.retry_attempt)
        self._check_execution(key.node.execution, event.producer_id)
        stored = self._rows.tasks.get(key)
        if stored is None:
            if key.node not in self._rows.node_ids:
                text = identifier_text(event.parent_node_execution_id)
                raise NotFound(f"Failed to get existing node execution id: [{text}]")
            state = tasks.fold_first(key, event, self._layout, offloads)
            identifier = self._rows.task_ids[key] = self._rows.free_task_ids.pop(0)
            self.changes.new_tasks[identifier] = state
        else:
            tasks.check_transition(stored, event)
            state = tasks.fold_task(stored, event, self._layout, offloads)
            _replace(self.changes.new_tasks, self.changes.tasks, self._rows.task_ids[key], state)
        before, after = None if stored is None else stored.closure.phase, state.closure.phase
        if before != after:
            self._counts(key.node.execution).count_task_transition(before, after)
        self._rows.tasks[key] = state

    def _counts(self, key: ExecutionKey) -> PhaseCounts:
        counts = self.changes.counts.get(key)
        if counts is None:
            counts = self.changes.counts[key] = self._rows.counts[key]
        return counts


def _replace(new: dict[int, State], old: dict[int, State], identifier: int, state: State) -> None:
    """Replace the state of a row; one that the batch itself created is still to be inserted."""
    (new if identifier in new else old)[identifier] = state
