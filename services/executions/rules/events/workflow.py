"""Fold a workflow event into an execution (events.md 2)."""

from dataclasses import replace

from flyteidl.admin.execution_pb2 import ExecutionClosure, ExecutionSpec
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.event.event_pb2 import WorkflowExecutionEvent

from services.contracts.identifiers import identifier_text
from services.contracts.phases import WORKFLOW_TERMINAL
from services.executions.rules.events.state import ExecutionState, Offloads
from services.executions.rules.events.storage import OUTPUTS, Storage
from services.executions.rules.events.times import between, check_occurred_at, start_unless_known
from services.executions.rules.events.transitions import WORKFLOW, Move
from services.executions.rules.events.verdicts import UNNAMED_PRODUCERS, already_over, check_producer
from services.kit.errors import AlreadyExists, FailedPrecondition

_name = WorkflowExecution.Phase.Name


def reassigns(event: WorkflowExecutionEvent) -> bool:
    """Whether `event` takes the execution over for its producer's cluster (events.md 2.2)."""
    return event.phase == WorkflowExecution.QUEUED and event.producer_id not in UNNAMED_PRODUCERS


def fold_workflow(
    stored: ExecutionState, event: WorkflowExecutionEvent, storage: Storage, offloads: Offloads
) -> ExecutionState:
    """Return the execution after `event`; the very same one when the event is late.

    Raises AlreadyExists, FailedPrecondition (typed when terminal or of another cluster), InvalidArgument; in the order
    of events.md 2.1.
    """
    phase = stored.closure.phase
    move = WORKFLOW[phase, event.phase]
    if move is Move.AGAIN:
        raise AlreadyExists(f"This phase {_name(event.phase)} was already recorded for {_named(event)}")
    if event.phase != WorkflowExecution.QUEUED:
        check_producer(event.producer_id, stored.cluster)
    if move is Move.OVER:
        message = f"Invalid phase change from {_name(phase)} to {_name(event.phase)} for {_named(event)}"
        raise already_over(message, _name(phase))
    if move is Move.REFUSED:
        raise FailedPrecondition(f"{_refusal(phase, event.phase)} for {_named(event)}")
    check_occurred_at(event.occurred_at, present=event.HasField("occurred_at"))
    if move is Move.LATE:
        return stored
    closure = ExecutionClosure()
    closure.CopyFrom(stored.closure)
    _advance(closure, event)
    _keep_result(closure, stored, event, storage, offloads)
    if reassigns(event):
        return replace(stored, closure=closure, cluster=event.producer_id, spec=_assigned(stored.spec, event))
    return replace(stored, closure=closure)


def _named(event: WorkflowExecutionEvent) -> str:
    return f"workflow execution {identifier_text(event.execution_id)}"


def _refusal(stored: int, event: int) -> str:
    if stored == WorkflowExecution.ABORTING:
        return f"Invalid phase change from aborting to {_name(event)}"
    return f"Cannot go from {_name(stored)} to {_name(event)}"


def _advance(closure: ExecutionClosure, event: WorkflowExecutionEvent) -> None:
    closure.phase = event.phase
    closure.updated_at.CopyFrom(event.occurred_at)
    if event.phase == WorkflowExecution.RUNNING:
        closure.started_at.CopyFrom(event.occurred_at)
    if event.phase == WorkflowExecution.SUCCEEDED:  # what failed or was aborted may never have run (executions.md 2.11)
        start_unless_known(closure)
    if event.phase in WORKFLOW_TERMINAL and closure.HasField("started_at"):
        closure.duration.CopyFrom(between(closure.started_at, event.occurred_at))


def _keep_result(
    closure: ExecutionClosure,
    stored: ExecutionState,
    event: WorkflowExecutionEvent,
    storage: Storage,
    offloads: Offloads,
) -> None:
    """Store what the event brings, in any phase; without a result the former one (an abort's cause) stays."""
    if event.output_uri:
        closure.outputs.uri = event.output_uri
    elif event.HasField("output_data"):
        if storage.inline_outputs:
            closure.output_data.CopyFrom(event.output_data)
        else:
            data = event.output_data.SerializeToString()
            closure.outputs.uri = offloads.add(storage.execution_data(stored.key, OUTPUTS), data)
    elif event.HasField("error"):
        closure.error.CopyFrom(event.error)


def _assigned(spec: bytes, event: WorkflowExecutionEvent) -> bytes:
    parsed = ExecutionSpec.FromString(spec)
    parsed.metadata.system_metadata.execution_cluster = event.producer_id
    return parsed.SerializeToString()
