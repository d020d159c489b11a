"""The output of the commands: logged and refused events, each as one line of a table or one line of JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from flyteidl.admin.event_pb2 import (
    NodeExecutionEventRequest,
    TaskExecutionEventRequest,
    WorkflowExecutionEventRequest,
)
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from google.protobuf.message import DecodeError, Message
from google.rpc.code_pb2 import Code

from services.contracts.event_batches import BatchedEvent, Kind, decode_batch, decode_verdicts, parse_verdict
from services.contracts.execution_argument import ExecutionName
from services.contracts.fingerprints import positions_of
from services.kit.errors import InvalidArgument
from services.kit.protobuf.readable import REQUEST_RULE, UnreadableValue, depth_check

WAITING = "waiting"
"""Shown instead of a verdict that is not known yet."""

_GONE = "the event was large, and its object is gone"


@dataclass(frozen=True)
class LoggedEvent:
    """A logged or refused event; `body` is None while its object is not read, or when it is gone."""

    received_at: datetime
    batch_id: str
    position: int
    event: BatchedEvent
    verdict: bytes | None
    body: bytes | None

    @property
    def missing_object(self) -> str | None:
        """Return the URI of the event's object while it is not read; None otherwise."""
        return self.event.body.decode() if self.event.by_reference and self.body is None else None

    def with_body(self, body: bytes) -> "LoggedEvent":
        """Return the event with the `body` that its object contains."""
        return replace(self, body=body)


@dataclass(frozen=True)
class EventSummary:
    """The fields of an event that are shown; those that its kind does not have are empty."""

    execution: ExecutionName
    node: str = ""
    task: str = ""
    attempt: int | None = None
    phase: str = ""
    version: int | None = None


def events_of(
    received_at: datetime, payload: bytes, verdicts: bytes | None, fingerprint: bytes, fingerprints: bytes | None
) -> list[LoggedEvent]:
    """Return the events of a logged batch that have `fingerprint`; all of them when its sender sent no fingerprints.

    Args:
        received_at: When the stream received the batch.
        payload: The framed batch.
        verdicts: Its framed verdicts; None when they are not known.
        fingerprint: Of the execution.
        fingerprints: Of the events, concatenated; None when they were not sent.
    """
    try:
        batch = decode_batch(payload)
        statuses = decode_verdicts(verdicts).statuses if verdicts else None
    except InvalidArgument:
        return []  # executions stores it as unreadable
    if fingerprints is None:
        positions: Iterable[int] = range(len(batch.events))
    else:
        positions = positions_of(fingerprint, fingerprints)
    return [
        LoggedEvent(
            received_at,
            batch.id,
            position,
            batch.events[position]._replace(fingerprint=fingerprint),
            None if statuses is None else statuses[position],
            None if batch.events[position].by_reference else batch.events[position].body,
        )
        for position in positions
    ]


def summarize(kind: Kind, body: bytes) -> EventSummary | None:
    """Return the fields of a serialized event; None when it cannot be parsed."""
    try:
        return _READERS[kind](body)
    except DecodeError:
        return None


def readability_fault(kind: Kind, body: bytes) -> str:
    """Return why the check for readable values would refuse the event today; empty when it would not.

    Releases before that check accepted values that no list can return (common.md#readable-values).
    """
    request = _REQUESTS[kind]
    try:
        depth_check(request)(body)
        REQUEST_RULE.check(request.FromString(body))
    except UnreadableValue as error:
        return f"{error.path}: {error.fault}" if error.path else error.fault
    return ""


def columns_of(logged: LoggedEvent) -> dict[str, str | int | None]:
    """Return the values of one line, by column."""
    summary = None if logged.body is None else summarize(logged.event.kind, logged.body)
    verdict, message = _verdict_columns(logged.verdict)
    return {
        "received": logged.received_at.isoformat(timespec="milliseconds"),
        "batch": logged.batch_id,
        "position": logged.position,
        "execution": "/".join(summary.execution) if summary else "",
        "kind": logged.event.kind.name.lower(),
        "node": summary.node if summary else "",
        "task": summary.task if summary else "",
        "attempt": summary.attempt if summary else None,
        "phase": summary.phase if summary else "",
        "version": summary.version if summary else None,
        "verdict": verdict,
        "message": message or (_GONE if logged.body is None else ""),
    }


def _verdict_columns(verdict: bytes | None) -> tuple[str, str]:
    if verdict is None:
        return WAITING, ""
    status = parse_verdict(verdict)
    return ("OK", "") if status is None else (Code.Name(status.code), status.message)


def _phase(phases: Any, number: int) -> str:
    # A newer release may have accepted a phase that this one cannot name.
    return str(phases.Name(number)) if number in phases.values() else str(number)


def _workflow(body: bytes) -> EventSummary:
    event = WorkflowExecutionEventRequest.FromString(body).event
    identifier = event.execution_id
    execution = ExecutionName(identifier.project, identifier.domain, identifier.name)
    return EventSummary(execution, phase=_phase(WorkflowExecution.Phase, event.phase))


def _node(body: bytes) -> EventSummary:
    event = NodeExecutionEventRequest.FromString(body).event
    identifier = event.id.execution_id
    execution = ExecutionName(identifier.project, identifier.domain, identifier.name)
    return EventSummary(execution, event.id.node_id, phase=_phase(NodeExecution.Phase, event.phase))


def _task(body: bytes) -> EventSummary:
    event = TaskExecutionEventRequest.FromString(body).event
    parent = event.parent_node_execution_id
    identifier = parent.execution_id
    return EventSummary(
        ExecutionName(identifier.project, identifier.domain, identifier.name),
        parent.node_id,
        event.task_id.name,
        event.retry_attempt,
        _phase(TaskExecution.Phase, event.phase),
        event.phase_version,
    )


_REQUESTS: Mapping[Kind, type[Message]] = {
    Kind.WORKFLOW: WorkflowExecutionEventRequest,
    Kind.NODE: NodeExecutionEventRequest,
    Kind.TASK: TaskExecutionEventRequest,
}
_READERS = {Kind.WORKFLOW: _workflow, Kind.NODE: _node, Kind.TASK: _task}
