"""Responses of unary gRPC calls, and the status in the trailers that end one."""

import base64
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from services.kit.http2.headers import HeaderFieldCache

OK = 0
DEADLINE_EXCEEDED = 4
INTERNAL = 13
UNAVAILABLE = 14
UNKNOWN = 2
NOT_FOUND = 5
RESOURCE_EXHAUSTED = 8

# Binary headers come without the padding that Python's decoder requires.
_BASE64_QUANTUM = 4
# The connections of the load generator allow servers no dynamic table.
_FIELDS = HeaderFieldCache()


class Response(NamedTuple):
    """The response of a call: gRPC code and message, the serialized body, and the serialized google.rpc.Status."""

    code: int
    message: str
    body: bytes
    details: bytes = b""


# Nearly every response ends with the same bytes.
@lru_cache(maxsize=256)
def status_of(block: bytes) -> tuple[int, str, bytes]:
    """Return code, message and details of a block of trailers; raise HeaderError."""
    fields = _FIELDS.headers_of(block)
    if "grpc-status" not in fields:
        return UNKNOWN, f"a response without grpc-status, HTTP status {fields.get(':status')}", b""
    details = fields.get("grpc-status-details-bin", "")
    return (
        int(fields["grpc-status"]),
        unquote(fields.get("grpc-message", "")),
        base64.b64decode(details + "=" * (-len(details) % _BASE64_QUANTUM)),
    )
