"""The contract by which applied batches travel from executions to the event log of the events service.

Executions stores each batch that it applies, with its verdicts. A writer of the log takes the oldest rows and names in
its next request those that it has logged, which are then deleted. A row whose writer dies before that is taken again.

A reply is a part of the framed rows: NATS limits a message, and a batch with its verdicts may be larger.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.kit.errors import InvalidArgument

_VERSION = 1
_REQUEST = struct.Struct(">BqQI")  # version, row of which a part is known, its bytes known, number of logged rows
_REPLY = struct.Struct(">BqQQ?")  # version, first row, offset of the part, bytes of all rows, whether there are more
# id, lane, time, then the lengths of batch id, fingerprints (-1 for none), payload and verdicts
_ROW = struct.Struct(">qhqHiII")
_NONE = -1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class AppliedBatch:
    """A batch as executions has applied it.

    Attributes:
        id: Of its row, rising.
        lane: Its lane.
        received_at: When it was received; the same in each of its rows.
        batch_id: Its id, or one that executions makes when that cannot be read.
        fingerprints: Of its events, concatenated; None when its sender sent none.
        payload: The framed batch.
        verdicts: Its framed verdicts; empty when it cannot be read.
    """

    id: int
    lane: int
    received_at: datetime
    batch_id: str
    fingerprints: bytes | None
    payload: bytes
    verdicts: bytes


@dataclass(frozen=True)
class TakeRequest:
    """A request for the oldest rows.

    Attributes:
        logged: Ids of rows that are in the log and can be deleted.
        first: Id of the row of which a part is known; 0 for none.
        offset: How many bytes of it are known.
    """

    logged: Sequence[int] = ()
    first: int = 0
    offset: int = 0


@dataclass(frozen=True)
class TakeReply:
    """A part of the framed rows.

    Attributes:
        first: Id of the first row; 0 when there is none.
        offset: Where the part begins: that of the request if the first row is the same, else 0.
        size: Bytes of all these rows.
        more: Whether there are more rows after these.
        part: The bytes.
    """

    first: int
    offset: int
    size: int
    more: bool
    part: bytes


def encode_request(request: TakeRequest) -> bytes:
    """Frame a request."""
    count = len(request.logged)
    return _REQUEST.pack(_VERSION, request.first, request.offset, count) + struct.pack(f">{count}q", *request.logged)


def decode_request(data: bytes) -> TakeRequest:
    """Decode a framed request; raise InvalidArgument when `data` is none."""
    try:
        version, first, offset, count = _REQUEST.unpack_from(data)
        _check_version(version)
        return TakeRequest(struct.unpack(f">{count}q", data[_REQUEST.size :]), first, offset)
    except struct.error as error:
        raise InvalidArgument("a request for applied batches is broken") from error


def encode_reply(reply: TakeReply) -> bytes:
    """Frame a reply."""
    return _REPLY.pack(_VERSION, reply.first, reply.offset, reply.size, reply.more) + reply.part


def decode_reply(data: bytes) -> TakeReply:
    """Decode a framed reply; raise InvalidArgument when `data` is none."""
    try:
        version, first, offset, size, more = _REPLY.unpack_from(data)
    except struct.error as error:
        raise InvalidArgument("a reply with applied batches is broken") from error
    _check_version(version)
    return TakeReply(first, offset, size, more, data[_REPLY.size :])


def encode_rows(rows: Iterable[AppliedBatch]) -> bytes:
    """Frame rows."""
    parts: list[bytes] = []
    for row in rows:
        identifier = row.batch_id.encode()
        fingerprints = _NONE if row.fingerprints is None else len(row.fingerprints)
        microseconds = (row.received_at - _EPOCH) // _MICROSECOND
        lengths = (len(identifier), fingerprints, len(row.payload), len(row.verdicts))
        parts.append(_ROW.pack(row.id, row.lane, microseconds, *lengths))
        parts += (identifier, row.fingerprints or b"", row.payload, row.verdicts)
    return b"".join(parts)


def decode_rows(data: bytes) -> list[AppliedBatch]:
    """Decode framed rows; raise InvalidArgument when `data` contains none."""
    rows = []
    offset = 0
    try:
        while offset < len(data):
            identifier, lane, microseconds, *lengths = _ROW.unpack_from(data, offset)
            offset += _ROW.size
            values = []
            for length in lengths:
                end = offset + max(length, 0)
                values.append(data[offset:end])
                offset = end
            batch_id, fingerprints, payload, verdicts = values
            received_at = _EPOCH + microseconds * _MICROSECOND
            known = None if lengths[1] == _NONE else fingerprints
            rows.append(AppliedBatch(identifier, lane, received_at, batch_id.decode(), known, payload, verdicts))
    except (struct.error, ValueError, OverflowError) as error:
        raise InvalidArgument("the frame of applied batches is broken") from error
    if offset != len(data):
        raise InvalidArgument("the frame of applied batches ends early")
    return rows


def _check_version(version: int) -> None:
    if version != _VERSION:
        raise InvalidArgument(f"applied batches of version {version} cannot be read")
