"""Spans of the attempts of a task, and of a gate (executions.md#node-span, executions.md#task-spans)."""

from collections.abc import Sequence

from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.core.metrics_pb2 import Span

from services.executions.rules.spans.forms import after, nanoseconds, operation, operation_if_ordered
from services.executions.rules.spans.requests import Task


def task_spans(tasks: Sequence[Task], depth: int) -> list[Span]:
    """Return spans of attempts in the order of creation, and of the reset between two; at depth 0 the resets only."""
    spans: list[Span] = []
    ordered = sorted(tasks, key=lambda task: nanoseconds(task.closure.created_at))
    for before, task in zip([None, *ordered], ordered, strict=False):
        if before is not None:
            spans.append(operation("NODE_RESET", before.closure.updated_at, task.closure.created_at))
        if depth:
            spans.append(_task_span(task))
    return spans


def gate_spans(closure: NodeExecutionClosure) -> list[Span]:
    """Return the spans of a gate: setup, idle, teardown."""
    return _three("NODE_SETUP", "NODE_IDLE", "NODE_TEARDOWN", closure)


def _task_span(task: Task) -> Span:
    closure = task.closure
    span = Span(start_time=closure.created_at, end_time=closure.updated_at, task_id=task.id)
    span.spans.extend(_three("TASK_SETUP", "TASK_RUNTIME", "TASK_TEARDOWN", closure))
    return span


def _three(setup: str, middle: str, teardown: str, closure: NodeExecutionClosure | TaskExecutionClosure) -> list[Span]:
    created, updated = closure.created_at, closure.updated_at
    if not closure.HasField("started_at"):
        return [operation(setup, created, updated)]
    started = closure.started_at
    spans = [operation(setup, created, started)]
    if not nanoseconds(closure.duration):
        return [*spans, operation(middle, started, updated)]
    ended = after(started, closure.duration)
    return [*spans, operation(middle, started, ended), *operation_if_ordered(teardown, ended, updated)]
