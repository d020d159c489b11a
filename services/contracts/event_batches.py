"""The contract by which events travel from the events service to the executions service.

Events of one execution go into one lane; a lane is a subject of the stream and is consumed strictly in order. A batch
is one message: its id and its events, serialized. The reply, sent to the subject that the batch names, is
the id and one verdict for each event, in order.

The framing is not protobuf: neither side needs one event without the whole batch. A batch is put together from
serialized events, and the event log stores it without parsing any.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Self
from zlib import crc32

from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc.status_pb2 import Status

from services.kit.errors import InvalidArgument, ServiceError, to_status
from services.kit.messaging.messages import Stream

# Of a lane one batch is applied at a time: more lanes let more replicas work at once, fewer make batches larger and an
# event cheaper. One keeps a process of executions busy (docs/decisions/0015-one-lane-statements-by-libpq.md). Changing
# the number reorders events in flight, so it is part of the contract and not a setting.
EVENT_LANES = 1

SUBJECTS = "flyte.events.batch.*"
"""Subjects of all lanes."""

BATCHES_STREAM = Stream("EVENT_BATCHES", (SUBJECTS,), max_age=0, interest_retention=True)
"""The stream that stores batches until they are applied."""

PROBE_SUBJECT = "flyte.events.batch.trial"
"""Subject of a batch without events, appended to check that the stream accepts messages. Neither applied nor logged."""

VERDICT_SUBJECT_HEADER = "Flyte-Verdict-Inbox"
"""NATS header of a batch: the subject to which its verdicts are sent."""

AFTER_HEADER = "Flyte-After"
"""NATS header of a batch that is sent directly: the number of its sender's batch that must be applied before it."""

LARGE_EVENTS_PATH = ("metadata", "events", "waiting")
"""Parts of the URI below which events are stored that are too large for a batch."""

MOST_RESOURCE_INDEX = 2**17 - 1
"""The largest index of an external resource: map tasks of 131,072 subtasks. Executions stores neighbours together, so
it bounds the rows of a task, which a change of its phase reads and writes."""

_VERSION = 1
# Of the number of a batch: a bigint.
_DIGITS = 18
_HEAD = struct.Struct(">BBI")  # version, length of the batch id, number of items
_EVENT = struct.Struct(">BI")  # kind and flags, length
_VERDICT = struct.Struct(">I")  # length
_BY_REFERENCE = 0x80


class Kind(IntEnum):
    """The request that an event came with."""

    WORKFLOW = 1  # admin.WorkflowExecutionEventRequest
    NODE = 2  # admin.NodeExecutionEventRequest
    TASK = 3  # admin.TaskExecutionEventRequest


class BatchedEvent(NamedTuple):
    """One event: the serialized request, or the URI (UTF-8) of its object when it is too large."""

    kind: Kind
    body: bytes
    by_reference: bool = False
    fingerprint: bytes = b""
    """Of its execution, made by the events service. Not in the frame: it travels in a header, for the log only."""


@dataclass(frozen=True)
class Batch:
    """Events of one lane, in order; `id` is unique over all batches ever sent."""

    id: str
    events: tuple[BatchedEvent, ...]


@dataclass(frozen=True)
class Refusal:
    """A refused event, its batch, its position there and its verdict."""

    batch_id: str
    position: int
    event: BatchedEvent
    status: Status  # as the caller received it


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of the batch `id`, one for each event: serialized google.rpc.Status, empty for OK."""

    id: str
    statuses: tuple[bytes, ...]


def lane_of(project: str, domain: str, name: str) -> int:
    """Return the lane of an execution's events: the same in every process and release."""
    return crc32(f"{project}:{domain}:{name}".encode(errors="surrogatepass")) % EVENT_LANES


def subject_of(lane: int) -> str:
    """Return the subject that carries `lane`."""
    return f"flyte.events.batch.{lane}"


def verdict_subject_of(process_id: str) -> str:
    """Return the subject of the verdicts for the process `process_id` of events, which is one token."""
    return f"flyte.events.verdicts.{process_id}"


def direct_subject_of(lane: int) -> str:
    """Return the subject of batches of `lane` that go directly to executions; no stream stores them."""
    return f"flyte.events.apply.{lane}"


def batch_id(sender: str, number: int) -> str:
    """Return the id of a batch: its sender, unique over all processes ever, and its number, which only rises there."""
    return f"{sender}-{number}"


def sender_and_number(identifier: str) -> tuple[str, int]:
    """Return the parts of the id of a batch; of an id in another form itself, as the sender of one batch."""
    sender, _, number = identifier.rpartition("-")
    numbered = number.isascii() and number.isdigit() and len(number) <= _DIGITS
    return (sender, int(number)) if numbered else (identifier, 1)


def durable_of(lane: int) -> str:
    """Return the name of the durable consumer that applies `lane`, shared by all replicas of executions."""
    return f"executions-event-lane-{lane}"


def large_event_path(batch_id: str, position: int) -> tuple[str, ...]:
    """Return the parts of the URI of an event that is too large for its batch."""
    return (*LARGE_EVENTS_PATH, f"{batch_id}-{position}")


def unreadable_batch_path(lane: int, sequence: int) -> tuple[str, ...]:
    """Return the parts of the URI at which a batch is stored that cannot be read."""
    return ("metadata", "events", "unreadable", f"{lane}-{sequence}")


def verdict(error: ServiceError | None) -> bytes:
    """Return the verdict for `error`, or OK for None."""
    return b"" if error is None else to_status(error).SerializeToString()


def parse_verdict(status: bytes) -> Status | None:
    """Return the status in a verdict, or None for OK."""
    return Status.FromString(status) if status else None


def encode_refusal(refused: Refusal) -> Status:
    """Return the message of EVENT_REFUSED: the verdict, with the event in a batch of its own as its last detail."""
    message = Status()
    message.CopyFrom(refused.status)
    alone = encode_batch(Batch(f"{refused.batch_id}/{refused.position}", (refused.event,)))
    message.details.add().Pack(BytesValue(value=alone))
    return message


def decode_refusal(message: Status) -> Refusal:
    """Decode the result of `encode_refusal`; raise InvalidArgument for anything else."""
    frame = BytesValue()
    if not message.details or not message.details[-1].Unpack(frame):
        raise InvalidArgument("a refused event carries no event")
    batch = decode_batch(frame.value)
    identifier, _, position = batch.id.rpartition("/")
    status = Status()
    status.CopyFrom(message)
    del status.details[-1]
    return Refusal(identifier, int(position), batch.events[0], status)


def encode_batch(batch: Batch) -> bytes:
    """Frame `batch` as one message."""
    parts = [_head(batch.id, len(batch.events))]
    for event in batch.events:
        flags = _BY_REFERENCE if event.by_reference else 0
        parts += (_EVENT.pack(event.kind | flags, len(event.body)), event.body)
    return b"".join(parts)


def decode_batch(data: bytes) -> Batch:
    """Decode a framed batch; raise InvalidArgument when `data` is none."""
    with _Reader(data) as reader:
        identifier, count = reader.head()
        events = []
        for _ in range(count):
            flags, length = reader.take(_EVENT)
            events.append(BatchedEvent(Kind(flags & ~_BY_REFERENCE), reader.bytes(length), bool(flags & _BY_REFERENCE)))
    return Batch(identifier, tuple(events))


def encode_verdicts(identifier: str, statuses: Sequence[bytes]) -> bytes:
    """Frame the verdicts of the batch `identifier` as one message."""
    parts: list[bytes] = [_head(identifier, len(statuses))]
    for status in statuses:
        parts += (_VERDICT.pack(len(status)), status)
    return b"".join(parts)


def decode_verdicts(data: bytes) -> Verdicts:
    """Decode framed verdicts; raise InvalidArgument when `data` contains none."""
    with _Reader(data) as reader:
        identifier, count = reader.head()
        statuses = [reader.bytes(*reader.take(_VERDICT)) for _ in range(count)]
    return Verdicts(identifier, tuple(statuses))


def size(events: Iterable[BatchedEvent]) -> int:
    """Return how many bytes `events` take in a batch."""
    return sum(_EVENT.size + len(event.body) for event in events)


def _head(identifier: str, count: int) -> bytes:
    text = identifier.encode()
    return _HEAD.pack(_VERSION, len(text), count) + text


class _Reader:
    """A cursor over a frame, as a context manager that raises InvalidArgument for a broken frame."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (struct.error, ValueError)):
            raise InvalidArgument("the frame of a batch of events is broken") from error
        if error is None and self._offset != len(self._data):
            raise InvalidArgument("the frame of a batch of events has bytes left over")

    def head(self) -> tuple[str, int]:
        version, length, count = self.take(_HEAD)
        if version != _VERSION:
            raise InvalidArgument(f"a batch of events of version {version} cannot be read")
        return self.bytes(length).decode(), count

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        values: tuple[int, ...] = layout.unpack_from(self._data, self._offset)
        self._offset += layout.size
        return values

    def bytes(self, length: int) -> bytes:
        if self._offset + length > len(self._data):
            raise ValueError("the frame ends early")
        self._offset += length
        return self._data[self._offset - length : self._offset]
