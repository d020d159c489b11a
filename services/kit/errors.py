"""Every failure a caller can be told about, typed.

Raised anywhere in a service (rules, handlers, stores, listeners), translated in one place for each way out: `rpc` for
callers, `bus` for other services. The module knows neither gRPC nor HTTP, so that pure code can raise from it. The
numbers are those of google.rpc.Code, which gRPC shares.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.protobuf.symbol_database import Default as SymbolDatabase
from google.rpc.status_pb2 import Status

# flytekit raises its metadata limit to 32 KiB for the error text; a longer one would hide the error behind a
# RESOURCE_EXHAUSTED of the client itself.
MAX_MESSAGE_BYTES = 32_000


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
    """A failure with a code, a text for people and typed details for programs."""

    code: ClassVar[Code]

    def __init__(self, message: str, *details: Message) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Cancelled(ServiceError):
    """The caller has gone."""

    code = Code.CANCELLED


class InvalidArgument(ServiceError):
    """The request is wrong whatever the state of the system."""

    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(ServiceError):
    """The caller's time ran out."""

    code = Code.DEADLINE_EXCEEDED


class NotFound(ServiceError):
    """What is asked for does not exist. The engine kills a workflow over it: only for what is truly missing."""

    code = Code.NOT_FOUND


class AlreadyExists(ServiceError):
    """What is to be made is there already; every Flyte client takes it for success."""

    code = Code.ALREADY_EXISTS


class PermissionDenied(ServiceError):
    """The caller is known and may not."""

    code = Code.PERMISSION_DENIED


class ResourceExhausted(ServiceError):
    """Too large or too much at once; Go clients retry it."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(ServiceError):
    """Right in itself, wrong in the present state."""

    code = Code.FAILED_PRECONDITION


class Aborted(ServiceError):
    """Lost against a concurrent change; the caller may try again."""

    code = Code.ABORTED


class OutOfRange(ServiceError):
    """Past the end."""

    code = Code.OUT_OF_RANGE


class Unimplemented(ServiceError):
    """A method nobody serves."""

    code = Code.UNIMPLEMENTED


class Internal(ServiceError):
    """Our own fault."""

    code = Code.INTERNAL


class Unavailable(ServiceError):
    """A part is down for now; Go clients retry it."""

    code = Code.UNAVAILABLE


class Unauthenticated(ServiceError):
    """Nobody knows who is calling; clients answer it with a login."""

    code = Code.UNAUTHENTICATED


_BY_CODE: Mapping[int, type[ServiceError]] = {cls.code: cls for cls in ServiceError.__subclasses__()}


def trimmed(message: str) -> str:
    """`message` cut to what reaches every client, at a character boundary."""
    data = message.encode(errors="replace")
    return data[:MAX_MESSAGE_BYTES].decode(errors="ignore") if len(data) > MAX_MESSAGE_BYTES else message


def to_status(error: ServiceError) -> Status:
    """Pack `error` for the wire; a long text is cut, its details are kept (executions.md 1.1)."""
    status = Status(code=error.code, message=trimmed(error.message))
    for detail in error.details:
        status.details.add().Pack(detail)
    return status


def from_status(status: Status) -> ServiceError:
    """Rebuild the error that another service packed, as the class it was raised as.

    A detail of a type this process does not know is left out: it could not be packed again.
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
