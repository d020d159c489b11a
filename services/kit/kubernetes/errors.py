"""Errors of API servers as typed errors, with the server's own words."""

import json
from typing import Any

from services.kit.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

# etcd's limit of a request, and that of the API server's client of etcd: their errors have no reason of their own.
_TOO_LARGE_TEXTS = ("etcdserver: request is too large", "trying to send message larger than max")
_SERVER_ERROR = 500
_LONGEST_EXCERPT = 200


class TooLarge(ResourceExhausted):
    """An object is larger than the API server or its store accepts."""


class Unreachable(Unavailable):
    """There is no connection to the API server."""


_BY_STATUS: dict[int, type[ServiceError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Unimplemented,
    408: DeadlineExceeded,
    410: OutOfRange,  # the token of a list's next page has expired
    413: TooLarge,
    415: Unimplemented,
    422: InvalidArgument,
    429: ResourceExhausted,
    504: DeadlineExceeded,
}


def to_error(status: int, body: bytes) -> ServiceError:
    """Return the error of a response with an HTTP status of 400 or above.

    Server errors are Unavailable: the request may succeed later.

    Args:
        status: the HTTP status.
        body: a metav1.Status; or anything, if a proxy responded.
    """
    parsed = _parsed(body)
    message = str(parsed.get("message") or "") or f"HTTP {status}: {body[:_LONGEST_EXCERPT].decode(errors='replace')}"
    if status == 409:  # noqa: PLR2004  # Conflict, of which there are two kinds
        return (AlreadyExists if parsed.get("reason") == "AlreadyExists" else Aborted)(message)
    if any(text in message for text in _TOO_LARGE_TEXTS):
        return TooLarge(message)
    default: type[ServiceError] = Unavailable if status >= _SERVER_ERROR else FailedPrecondition
    return _BY_STATUS.get(status, default)(message)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
