"""Fold of a task event into one attempt of a task (events.md#createtaskevent)."""

from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.identifier_pb2 import TaskExecutionIdentifier
from flyteidl.event.event_pb2 import TaskExecutionEvent

from services.contracts.identifiers import identifier_text
from services.contracts.phases import TASK_TERMINAL
from services.executions.rules.events.custom_info import merge_patch
from services.executions.rules.events.data import input_uri, set_result
from services.executions.rules.events.external_resources import fold_resources, split_resources
from services.executions.rules.events.layout import ObjectLayout
from services.executions.rules.events.logs import FILTERING, merge_logs, visible_logs
from services.executions.rules.events.state import Offloads, TaskKey, TaskState
from services.executions.rules.events.task_metadata import sort_resources
from services.executions.rules.events.times import between, check_occurred_at, default_started_at, recorded_at
from services.executions.rules.events.transitions import TASK, TransitionResult
from services.executions.rules.events.verdicts import already_over, check_growth, check_parts_growth
from services.kit.errors import AlreadyExists
from services.kit.protobuf.size_limit import MOST_ENTITY_BYTES

_name = TaskExecution.Phase.Name

# The engine repeats reasons with every phase version, up to 100,000 of them. The console shows a few; beyond this
# number the oldest are dropped.
MAX_REASONS = 256

# What the end of an attempt does without when it would become too large.
_OPTIONAL = ("task_type", "reason", "reasons", "logs", "log_context", "custom_info", "metadata")

_REPEATS = frozenset((TransitionResult.AGAIN_UNLESS_NEWER, TransitionResult.AGAIN_ELSE_OVER))


def check_transition(stored: TaskState, event: TaskExecutionEvent) -> None:
    """Raise AlreadyExists or a typed FailedPrecondition unless the attempt may take the event.

    The typed detail names the event's phase, as in flyteadmin (events.md#task-event-checks).
    """
    phase = stored.closure.phase
    result = TASK[phase, event.phase]
    if result in _REPEATS and stored.phase_version >= event.phase_version:
        recorded = f"{_name(event.phase)} (version: {event.phase_version})"
        raise AlreadyExists(f"have already recorded task execution phase {recorded} for {_named(event)}")
    if result in {TransitionResult.OVER, TransitionResult.AGAIN_ELSE_OVER}:
        message = f"Invalid phase change from {_name(phase)} to {_name(event.phase)}"
        raise already_over(f"{message} for task execution {_named(event)}", _name(event.phase))


def _named(event: TaskExecutionEvent) -> str:
    return identifier_text(
        TaskExecutionIdentifier(
            task_id=event.task_id,
            node_execution_id=event.parent_node_execution_id,
            retry_attempt=event.retry_attempt,
        )
    )


def fold_first(key: TaskKey, event: TaskExecutionEvent, layout: ObjectLayout, offloads: Offloads) -> TaskState:
    """Return the attempt that its first event creates (events.md#first-task-event). Its logs are not filtered."""
    check_occurred_at(event.occurred_at, present=event.HasField("occurred_at"))
    closure = TaskExecutionClosure(task_type=event.task_type, event_version=event.event_version)
    closure.created_at.CopyFrom(event.occurred_at)
    closure.logs.extend(event.logs)
    if event.HasField("custom_info"):
        closure.custom_info.CopyFrom(event.custom_info)
    if event.HasField("metadata"):
        closure.metadata.CopyFrom(event.metadata)
        sort_resources(closure.metadata)
    if event.phase == TaskExecution.RUNNING:
        closure.started_at.CopyFrom(event.occurred_at)
    _advance(closure, key, event, layout, offloads)
    chunks = split_resources(closure, event.phase)
    if not _fits(closure, TaskExecutionClosure()) and (end := _end_alone(event, offloads)) != event:
        return fold_first(key, end, layout, offloads)
    return TaskState(
        key=key,
        closure=closure,
        phase_version=event.phase_version,
        input_uri=input_uri(key, event, layout, offloads),
        chunks=chunks,
    )


def fold_task(stored: TaskState, event: TaskExecutionEvent, layout: ObjectLayout, offloads: Offloads) -> TaskState:
    """Return the attempt after `event`, which has passed `check_transition` (events.md#later-task-events)."""
    check_occurred_at(event.occurred_at, present=event.HasField("occurred_at"))
    closure = TaskExecutionClosure()
    closure.CopyFrom(stored.closure)
    changed = stored.closure.phase != event.phase
    if changed and event.phase == TaskExecution.RUNNING and not closure.HasField("started_at"):
        closure.started_at.CopyFrom(event.occurred_at)
    elif event.phase in TASK_TERMINAL:
        default_started_at(closure)
    if event.logs or event.phase in FILTERING:
        logs = visible_logs(merge_logs(stored.closure.logs, event.logs), event.phase)
        del closure.logs[:]
        closure.logs.extend(logs)
    if event.HasField("custom_info"):
        merge_patch(closure.custom_info, event.custom_info, present=stored.closure.HasField("custom_info"))
    chunks = fold_resources(stored, closure, event, changed=changed)
    closure.event_version = max(closure.event_version, event.event_version)
    _advance(closure, stored.key, event, layout, offloads)
    if not _fits(closure, stored.closure) and (end := _end_alone(event, offloads)) != event:
        return fold_task(stored, end, layout, offloads)
    return TaskState(
        key=stored.key,
        closure=closure,
        phase_version=event.phase_version,
        input_uri=stored.input_uri or input_uri(stored.key, event, layout, offloads),
        chunks=chunks,
    )


def _fits(closure: TaskExecutionClosure, stored: TaskExecutionClosure) -> bool:
    """Drop the oldest reasons of a closure that is too large; return False if an end is too large all the same.

    Many external resources are not in it. The end of an attempt is always accepted: it happens once.

    Raises:
        ResourceExhausted: The closure is none of an end, and has grown too large.
    """
    size = closure.ByteSize()
    while size > MOST_ENTITY_BYTES and len(closure.reasons) > 1:
        size -= closure.reasons[0].ByteSize()
        del closure.reasons[0]
    if closure.phase not in TASK_TERMINAL:
        check_growth("task execution", size, stored)
        check_parts_growth("task execution", size, closure, stored)
        return True
    size -= closure.error.ByteSize()  # there is always space for it
    return size <= MOST_ENTITY_BYTES or size <= stored.ByteSize()


def _end_alone(event: TaskExecutionEvent, offloads: Offloads) -> TaskExecutionEvent:
    """Return a terminal event without all but times and result; drop what has been collected for it."""
    offloads.objects.clear()
    end = TaskExecutionEvent()
    end.CopyFrom(event)
    for name in _OPTIONAL:
        end.ClearField(name)
    return end


def _advance(
    closure: TaskExecutionClosure, key: TaskKey, event: TaskExecutionEvent, layout: ObjectLayout, offloads: Offloads
) -> None:
    closure.phase = event.phase
    closure.updated_at.CopyFrom(recorded_at(event.occurred_at, event.reported_at))
    _add_reasons(closure, event)
    if event.HasField("log_context"):
        closure.log_context.CopyFrom(event.log_context)
    if event.phase in TASK_TERMINAL:
        if closure.HasField("started_at"):
            closure.duration.CopyFrom(between(closure.started_at, event.occurred_at))
        set_result(closure, key, event, layout, offloads)


def _add_reasons(closure: TaskExecutionClosure, event: TaskExecutionEvent) -> None:
    """Append the event's list of reasons, else its single reason unless that is repeated (events.md#task-reasons)."""
    if event.reasons:
        for reason in event.reasons:
            occurred_at = reason.occurred_at if reason.HasField("occurred_at") else None
            closure.reasons.add(occurred_at=occurred_at, message=reason.reason)
        closure.reason = event.reasons[-1].reason
    elif event.reason and event.reason != closure.reason:
        closure.reasons.add(occurred_at=event.occurred_at, message=event.reason)
        closure.reason = event.reason
    if len(closure.reasons) > MAX_REASONS:
        del closure.reasons[:-MAX_REASONS]
