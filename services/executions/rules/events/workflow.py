"""Fold of a workflow event into an execution (events.md#createworkflowevent)."""

from dataclasses import replace

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.event.event_pb2 import WorkflowExecutionEvent

from services.contracts.identifiers import identifier_text
from services.contracts.phases import WORKFLOW_TERMINAL
from services.executions.rules.events.data import set_error
from services.executions.rules.events.layout import OUTPUTS, ObjectLayout
from services.executions.rules.events.state import ExecutionState, Offloads
from services.executions.rules.events.times import between, check_occurred_at, default_started_at
from services.executions.rules.events.transitions import WORKFLOW, TransitionResult
from services.executions.rules.events.verdicts import UNNAMED_PRODUCERS, already_over, check_producer
from services.executions.rules.placements import in_cluster
from services.kit.errors import AlreadyExists, FailedPrecondition

_name = WorkflowExecution.Phase.Name


def reassigns(event: WorkflowExecutionEvent) -> bool:
    """Return whether `event` assigns the execution to its producer's cluster (events.md#producer-check)."""
    return event.phase == WorkflowExecution.QUEUED and event.producer_id not in UNNAMED_PRODUCERS


def fold_workflow(
    stored: ExecutionState, event: WorkflowExecutionEvent, layout: ObjectLayout, offloads: Offloads
) -> ExecutionState:
    """Return the execution after `event`; `stored` itself when the event is late.

    The checks are in the order of events.md#workflow-event-checks.

    Raises:
        AlreadyExists: The phase is recorded already.
        FailedPrecondition: The transition is refused; typed if `stored` is terminal or of another cluster.
        InvalidArgument: The event has no valid occurred_at.
    """
    phase = stored.closure.phase
    result = WORKFLOW[phase, event.phase]
    if result is TransitionResult.AGAIN:
        raise AlreadyExists(f"This phase {_name(event.phase)} was already recorded for {_named(event)}")
    if event.phase != WorkflowExecution.QUEUED:
        check_producer(event.producer_id, stored.cluster)
    if result is TransitionResult.OVER:
        message = f"Invalid phase change from {_name(phase)} to {_name(event.phase)} for {_named(event)}"
        raise already_over(message, _name(phase))
    if result is TransitionResult.REFUSED:
        raise FailedPrecondition(f"{_refusal(phase, event.phase)} for {_named(event)}")
    check_occurred_at(event.occurred_at, present=event.HasField("occurred_at"))
    if result is TransitionResult.LATE:
        return stored
    closure = ExecutionClosure()
    closure.CopyFrom(stored.closure)
    _advance(closure, event)
    _set_result(closure, stored, event, layout, offloads)
    if reassigns(event):
        return replace(
            stored, closure=closure, cluster=event.producer_id, spec=in_cluster(stored.spec, event.producer_id)
        )
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
    # Executions that failed or were aborted may never have run (executions.md#refusal-by-an-engine).
    if event.phase == WorkflowExecution.SUCCEEDED:
        default_started_at(closure)
    if event.phase in WORKFLOW_TERMINAL and closure.HasField("started_at"):
        closure.duration.CopyFrom(between(closure.started_at, event.occurred_at))


def _set_result(
    closure: ExecutionClosure,
    stored: ExecutionState,
    event: WorkflowExecutionEvent,
    layout: ObjectLayout,
    offloads: Offloads,
) -> None:
    """Set the event's result, in any phase; without one the former result (an abort's cause) stays."""
    if event.output_uri:
        closure.outputs.uri = event.output_uri
    elif event.HasField("output_data"):
        if layout.inline_outputs:
            closure.output_data.CopyFrom(event.output_data)
        else:
            data = event.output_data.SerializeToString()
            closure.outputs.uri = offloads.add(layout.execution_data(stored.key, OUTPUTS), data)
    elif event.HasField("error"):
        set_error(closure, event.error)
