"""What the commands show: logged and refused events, each as one line of a table or one line of JSON."""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from services.contracts.event_fingerprints import positions_of
from services.contracts.execution_names import ExecutionName
from services.kit.errors import InvalidArgument
from services.kit.protobuf.readable import WRITTEN, Unreadable, depth_check

WAITING = "waiting"
"""What stands for a verdict that is not known yet."""

_GONE = "the event was large, and its object is gone"
# Planes of characters that take two columns of a terminal, as East Asian ones do.
_WIDE = frozenset("WF")


@dataclass(frozen=True)
class Entry:
    """An event as it was logged or refused; `body` is None when its object is gone."""

    received_at: datetime
    batch_id: str
    position: int
    event: BatchedEvent
    verdict: bytes | None
    body: bytes | None

    @property
    def needs(self) -> str | None:
        """The URI of the object that holds the event, as long as it is not read."""
        return self.event.body.decode() if self.event.by_reference and self.body is None else None

    def with_body(self, body: bytes) -> "Entry":
        """The same with its object read."""
        return replace(self, body=body)


@dataclass(frozen=True)
class About:
    """What an event says of itself; what its kind lacks is empty."""

    execution: ExecutionName
    node: str = ""
    task: str = ""
    attempt: int | None = None
    phase: str = ""
    version: int | None = None


def entries_of(
    received_at: datetime, payload: bytes, verdicts: bytes | None, mark: bytes, marks: bytes | None
) -> list[Entry]:
    """The events of a logged batch that carry `mark`; all of them when their sender told no marks."""
    try:
        batch = decode_batch(payload)
        statuses = decode_verdicts(verdicts).statuses if verdicts else None
    except InvalidArgument:
        return []  # executions keeps it aside as unreadable
    places: Iterable[int] = range(len(batch.events)) if marks is None else positions_of(mark, marks)
    return [
        Entry(
            received_at,
            batch.id,
            place,
            batch.events[place]._replace(mark=mark),
            None if statuses is None else statuses[place],
            None if batch.events[place].by_reference else batch.events[place].body,
        )
        for place in places
    ]


def about(kind: Kind, body: bytes) -> About | None:
    """Read an event; None when it cannot be read."""
    try:
        return _READERS[kind](body)
    except DecodeError:
        return None


def unreadable(kind: Kind, body: bytes) -> str:
    """Say why an event would be refused today before anything else is looked at; empty when it would not.

    Releases before that check took what no list can show.
    """
    request = _REQUESTS[kind]
    try:
        depth_check(request)(body)
        WRITTEN.check(request.FromString(body))
    except Unreadable as found:
        return f"{found.path}: {found.fault}" if found.path else found.fault
    return ""


def fields_of(entry: Entry) -> dict[str, str | int | None]:
    """What one line shows of an event, by column."""
    read = None if entry.body is None else about(entry.event.kind, entry.body)
    verdict, message = _told(entry.verdict)
    return {
        "received": entry.received_at.isoformat(timespec="milliseconds"),
        "batch": entry.batch_id,
        "position": entry.position,
        "execution": "/".join(read.execution) if read else "",
        "kind": entry.event.kind.name.lower(),
        "node": read.node if read else "",
        "task": read.task if read else "",
        "attempt": read.attempt if read else None,
        "phase": read.phase if read else "",
        "version": read.version if read else None,
        "verdict": verdict,
        "message": message or (_GONE if entry.body is None else ""),
    }


def table(columns: Sequence[str], rows: Iterable[Mapping[str, str | int | None]]) -> Iterator[str]:
    """Lines of a table with a head; the last column is not padded."""
    cells = [[column.upper() for column in columns]]
    cells += [[_plain(row[column]) for column in columns] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def as_json(row: Mapping[str, str | int | None]) -> str:
    """One line of JSON; non-ASCII text stays readable."""
    return json.dumps(dict(row), ensure_ascii=False)


def _told(verdict: bytes | None) -> tuple[str, str]:
    if verdict is None:
        return WAITING, ""
    status = parse_verdict(verdict)
    return ("OK", "") if status is None else (Code.Name(status.code), status.message)


def _plain(value: str | int | None) -> str:
    """What is safe on a terminal and on one line: engines choose ids and messages quote them."""
    text = "" if value is None else str(value)
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in _WIDE else 1 for sign in text
    )


def _phase(phases: Any, number: int) -> str:
    """A newer release may have let a phase in that this one cannot name."""
    return str(phases.Name(number)) if number in phases.values() else str(number)


def _workflow(body: bytes) -> About:
    event = WorkflowExecutionEventRequest.FromString(body).event
    named = event.execution_id
    execution = ExecutionName(named.project, named.domain, named.name)
    return About(execution, phase=_phase(WorkflowExecution.Phase, event.phase))


def _node(body: bytes) -> About:
    event = NodeExecutionEventRequest.FromString(body).event
    named = event.id.execution_id
    execution = ExecutionName(named.project, named.domain, named.name)
    return About(execution, event.id.node_id, phase=_phase(NodeExecution.Phase, event.phase))


def _task(body: bytes) -> About:
    event = TaskExecutionEventRequest.FromString(body).event
    parent = event.parent_node_execution_id
    named = parent.execution_id
    return About(
        ExecutionName(named.project, named.domain, named.name),
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
