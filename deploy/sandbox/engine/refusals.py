"""What the control plane's responses to events mean for a run (events.md#reactions-of-the-engine)."""

from enum import Enum
from typing import Any

import grpc
from flyteidl.admin.event_pb2 import EventFailureReason
from google.rpc.status_pb2 import Status

_DETAILS = "grpc-status-details-bin"
# grpc-go's and gRPC's text for a message above the limit (events.md#status-and-error-kind).
_TOO_LARGE = "message larger than max"


class Refusal(Enum):
    """Why an event was refused."""

    RECORDED = "recorded already"
    ENDED = "already in a terminal state"
    OTHER_CLUSTER = "another cluster has the execution"
    NOT_FOUND = "not found"
    TOO_LARGE = "too large"
    INVALID = "invalid"
    NOT_NOW = "not now"
    OTHER = "other"


def refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Return the meaning of a status; typed details are read before the code."""
    reason = _reason(error)
    if reason == "already_in_terminal_state":
        return Refusal.ENDED
    if reason == "incompatible_cluster":
        return Refusal.OTHER_CLUSTER
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Refusal.TOO_LARGE if _TOO_LARGE in (error.details() or "") else Refusal.NOT_NOW
    return {
        grpc.StatusCode.ALREADY_EXISTS: Refusal.RECORDED,
        grpc.StatusCode.NOT_FOUND: Refusal.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT: Refusal.INVALID,
        grpc.StatusCode.UNAVAILABLE: Refusal.NOT_NOW,
        grpc.StatusCode.DEADLINE_EXCEEDED: Refusal.NOT_NOW,
        grpc.StatusCode.CANCELLED: Refusal.NOT_NOW,
    }.get(code, Refusal.OTHER)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Return the kind of the EventFailureReason in the details, empty for none."""
    metadata: Any = error.trailing_metadata()
    packed = dict(metadata or ()).get(_DETAILS)
    reason = EventFailureReason()
    if packed and any(detail.Unpack(reason) for detail in Status.FromString(packed).details):
        return reason.WhichOneof("reason") or ""
    return ""
