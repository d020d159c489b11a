"""How events travel from the events service to the executions service (architecture, section 3).

Events of one execution go into one lane; a lane is a subject of the stream and is consumed strictly in order. A batch
is one message: its id and its events as they were received. The answer, sent to the inbox that the batch names, is the
id and one verdict an event, in order.

The framing is not protobuf because neither side ever needs one event without the whole batch, and the service in
between must not parse what it only forwards.

Each batch has two readers: executions applies it, the events service writes it into its log (`event_log`).
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
from services.kit.messaging.messages import Announcement

# A lane has one batch on its way at a time: more lanes let more replicas work at once, fewer make batches larger and an
# event cheaper. One keeps a process of executions busy (docs/decisions/0015-one-lane-statements-by-libpq.md). Changing
# the number reorders events that are on their way, so it is part of the contract and no setting.
EVENT_LANES = 1

STREAM_NAME = "EVENT_BATCHES"
"""JetStream stream that keeps batches until they are applied and logged."""

SUBJECTS = "flyte.events.batch.*"
"""Every lane's subject: what the stream takes in."""

TRIAL = "flyte.events.batch.trial"
"""Carries a batch without events: put on file to know that the stream takes them. Nobody applies or logs it."""

EVENT_REFUSED = Announcement("flyte.executions.event.refused", Status)
"""An event was not applied, and not because it was recorded already: see `refusal`."""

LOG_DURABLE = "events-log"
"""Name of the durable consumer that logs every lane, shared by all replicas of events."""

INBOX_HEADER = "Flyte-Verdict-Inbox"
"""NATS header of a batch: the subject to which its verdicts are sent."""

VERDICTS_STREAM_NAME = "EVENT_VERDICTS"
"""JetStream stream that keeps verdicts for a while, for a log that was away when they were sent."""

VERDICTS = "flyte.events.verdicts.*"
"""The verdicts to every sender."""

WAITING_PLACES = ("metadata", "events", "waiting")
"""Parts of the URI under which every event too large for a batch waits."""

_VERSION = 1
_HEAD = struct.Struct(">BBI")  # version, length of the batch id, number of items
_EVENT = struct.Struct(">BI")  # kind and flags, length
_VERDICT = struct.Struct(">I")  # length
_BY_REFERENCE = 0x80


class Kind(IntEnum):
    """Which request an event came with."""

    WORKFLOW = 1  # admin.WorkflowExecutionEventRequest
    NODE = 2  # admin.NodeExecutionEventRequest
    TASK = 3  # admin.TaskExecutionEventRequest


class BatchedEvent(NamedTuple):
    """One event: the serialized request, or the URI (UTF-8) of an object that holds it when it is too large."""

    kind: Kind
    body: bytes
    by_reference: bool = False
    mark: bytes = b""
    """Of its execution (`event_fingerprints`). Not in the frame: it travels in a header and is for the log only."""


@dataclass(frozen=True)
class Batch:
    """Events of one lane, in order; `id` is unique over all batches ever sent."""

    id: str
    events: tuple[BatchedEvent, ...]


@dataclass(frozen=True)
class Refusal:
    """An event that was refused: in which batch, at which place, and the verdict."""

    batch_id: str
    position: int
    event: BatchedEvent
    status: Status  # as the caller got it


@dataclass(frozen=True)
class Verdicts:
    """What became of each event of the batch `id`: serialized google.rpc.Status, empty for OK."""

    id: str
    statuses: tuple[bytes, ...]


def lane_of(project: str, domain: str, name: str) -> int:
    """Return the lane of an execution's events: the same in every process and release."""
    return crc32(f"{project}:{domain}:{name}".encode(errors="surrogatepass")) % EVENT_LANES


def subject_of(lane: int) -> str:
    """Return the subject that carries `lane`."""
    return f"flyte.events.batch.{lane}"


def inbox_of(sender: str) -> str:
    """Return the subject of the verdicts to `sender`, which is one token."""
    return f"flyte.events.verdicts.{sender}"


def durable_of(lane: int) -> str:
    """Return the name of the durable consumer that applies `lane`, shared by all replicas of executions."""
    return f"executions-event-lane-{lane}"


def waiting_place(batch_id: str, position: int) -> tuple[str, ...]:
    """Return the parts of the URI under which an event too large for a batch waits to be applied."""
    return (*WAITING_PLACES, f"{batch_id}-{position}")


def parking_place(lane: int, sequence: int) -> tuple[str, ...]:
    """Return the parts of the URI under which a batch that cannot be read is kept."""
    return ("metadata", "events", "unreadable", f"{lane}-{sequence}")


def verdict(error: ServiceError | None) -> bytes:
    """Return the verdict that tells `error`, or OK for None."""
    return b"" if error is None else to_status(error).SerializeToString()


def parse_verdict(status: bytes) -> Status | None:
    """Return the refusal in a verdict, or None for OK."""
    return Status.FromString(status) if status else None


def refusal(refused: Refusal) -> Status:
    """Return the message of EVENT_REFUSED: the verdict, with the event as a batch of its own for its last detail."""
    message = Status()
    message.CopyFrom(refused.status)
    alone = encode_batch(Batch(f"{refused.batch_id}/{refused.position}", (refused.event,)))
    message.details.add().Pack(BytesValue(value=alone))
    return message


def read_refusal(message: Status) -> Refusal:
    """Read what `refusal` wrote; raises InvalidArgument when it is something else."""
    encode_frame = BytesValue()
    if not message.details or not message.details[-1].Unpack(encode_frame):
        raise InvalidArgument("a refused event carries no event")
    batch = decode_batch(encode_frame.value)
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


def framed_id(data: bytes) -> str:
    """Return the id in a framed batch or in framed verdicts; raises InvalidArgument when it is neither."""
    reader = _Reader(data)
    try:
        return reader.head()[0]
    except (struct.error, ValueError) as error:
        raise InvalidArgument("the frame of a batch of events is broken") from error


def decode_batch(data: bytes) -> Batch:
    """Read a framed batch; raises InvalidArgument when it is none."""
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
    """Read framed verdicts; raises InvalidArgument when they are none."""
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
    """Walks over a frame; whatever does not fit is raised as InvalidArgument."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (struct.error, ValueError)):
            raise InvalidArgument("the frame of a batch of events is broken") from error
        if error is None and self._at != len(self._data):
            raise InvalidArgument("the frame of a batch of events has bytes left over")

    def head(self) -> tuple[str, int]:
        version, length, count = self.take(_HEAD)
        if version != _VERSION:
            raise InvalidArgument(f"a batch of events of version {version} cannot be read")
        return self.bytes(length).decode(), count

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        values: tuple[int, ...] = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return values

    def bytes(self, length: int) -> bytes:
        if self._at + length > len(self._data):
            raise ValueError("the frame ends early")
        self._at += length
        return self._data[self._at - length : self._at]
