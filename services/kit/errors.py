"""Typed failures that callers receive, by status code.

They are raised anywhere in a service (rules, handlers, stores, consumers) and translated where they leave it: by `rpc`
for callers, by `bus` for other services. The module imports neither gRPC nor HTTP, so that pure code can raise them.
The codes are those of google.rpc.Code, which are gRPC's too.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.protobuf.symbol_database import Default as SymbolDatabase
from google.rpc.status_pb2 import Status

# Bytes of an error in a response's header fields: the message, percent-encoded, and if there are details, they and the
# message once more, in base64. gRPC's clients for Python and Java accept 8 KiB of all fields, of which the others have
# some 500 bytes; for more, they report RESOURCE_EXHAUSTED instead of the error (clients.md#long-error-messages).
MAX_STATUS_BYTES = 7 * 1024

# The bytes that percent-encoding leaves as they are. Any other becomes three.
_NOT_ENCODED = bytes(set(range(0x20, 0x7F)) - {ord("%")})
# The most bytes of a character in both fields: four of UTF-8, percent-encoded and in base64.
_CHARACTER_BYTES = 18
# Of a Status, the tag and the length of its message.
_HEAD_BYTES = 3


class Code(IntEnum):
    """google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class ServiceError(Exception):
    """A failure with a status code, a message for people and typed details for programs."""

    code: ClassVar[Code]

    def __init__(self, message: str, *details: Message) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Cancelled(ServiceError):
    """The caller has cancelled the call or disconnected."""

    code = Code.CANCELLED


class InvalidArgument(ServiceError):
    """The request is wrong, whatever the state of the system."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(ServiceError):
    """The caller's deadline has passed."""

    code = Code.DEADLINE_EXCEEDED


class NotFound(ServiceError):
    """The requested entity does not exist. The engine fails a workflow for it: raise it only if that is certain."""

    code = Code.NOT_FOUND


class AlreadyExists(ServiceError):
    """The entity to create exists already; every Flyte client takes that for success."""

    code = Code.ALREADY_EXISTS


class PermissionDenied(ServiceError):
    """The caller is known and lacks the permission."""

    code = Code.PERMISSION_DENIED


class ResourceExhausted(ServiceError):
    """A message is too large, or there are too many at a time; Go clients retry it."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(ServiceError):
    """The request is valid, but not in the present state of the system."""

    code = Code.FAILED_PRECONDITION


class Aborted(ServiceError):
    """The call lost against a concurrent change; the caller may retry."""

    code = Code.ABORTED


class OutOfRange(ServiceError):
    """The request goes beyond the end of a range."""

    code = Code.OUT_OF_RANGE


class Unimplemented(ServiceError):
    """The method is not served."""

    code = Code.UNIMPLEMENTED


class Internal(ServiceError):
    """A bug or a broken state of Flyteplane."""

    code = Code.INTERNAL


class Unavailable(ServiceError):
    """A dependency is unavailable for now; Go clients retry it."""

    code = Code.UNAVAILABLE


class Unauthenticated(ServiceError):
    """The caller is not authenticated; clients start a login."""

    code = Code.UNAUTHENTICATED


_BY_CODE: Mapping[int, type[ServiceError]] = {cls.code: cls for cls in ServiceError.__subclasses__()}


def to_status(error: ServiceError) -> Status:
    """Return `error` as a Status that every client receives.

    A long message is shortened, all details stay (common.md#length-of-error-messages).
    """
    status = Status(code=error.code)
    for detail in error.details:
        status.details.add().Pack(detail)
    status.message = _shortened(error.message, _HEAD_BYTES + status.ByteSize() if error.details else 0)
    return status


def _shortened(message: str, details_bytes: int) -> str:
    """Return `message`; a long one without a part after its beginning, as its end may say what is wrong."""
    length = len(message)
    fits = length * _CHARACTER_BYTES + details_bytes * 2 <= MAX_STATUS_BYTES  # almost every message is so short
    if fits or (length <= MAX_STATUS_BYTES and _field_bytes(message, details_bytes) <= MAX_STATUS_BYTES):
        return message

    def with_quarters(kept: int) -> str:
        """Return three times `kept` characters of the beginning, and `kept` of the end."""
        return f"{message[: 3 * kept]} ... ({length - 4 * kept} characters left out) ... {message[length - kept :]}"

    quarters = range(min(length, MAX_STATUS_BYTES) // 4)
    most = bisect_right(quarters, MAX_STATUS_BYTES, key=lambda kept: _field_bytes(with_quarters(kept), details_bytes))
    return with_quarters(max(most - 1, 0))


def _field_bytes(message: str, details_bytes: int) -> int:
    """Return the bytes of header fields with this message, and with details of so many bytes."""
    data = message.encode(errors="replace")
    encoded = len(data) + 2 * len(data.translate(None, _NOT_ENCODED))
    return encoded + math.ceil((len(data) + details_bytes) * 4 / 3) if details_bytes else encoded


def from_status(status: Status) -> ServiceError:
    """Return the error of a Status, as an instance of the class that was raised.

    Details of types that are unknown to this process are left out: they could not be packed again.
    """
    details = [message for packed in status.details if (message := _unpack(packed)) is not None]
    return _BY_CODE.get(status.code, Internal)(status.message, *details)


def _unpack(packed: AnyMessage) -> Message | None:
    try:
        message = SymbolDatabase().GetSymbol(packed.TypeName())()
        message.ParseFromString(packed.value)
    except (KeyError, DecodeError):
        return None
    return message if isinstance(message, Message) else None
