"""What a unary gRPC call is answered, and how it stands in the trailers that end an answer."""

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

# Binary headers come without the padding that Python's decoder wants.
_BASE64_QUANTUM = 4
# The connections of the load generator allow servers no dynamic table.
_FIELDS = HeaderFieldCache()


class Answer(NamedTuple):
    """What a call was answered: gRPC code, its message, the serialized reply, and the serialized details."""

    code: int
    message: str
    body: bytes
    details: bytes = b""


# Nearly every answer ends with the same bytes.
@lru_cache(maxsize=256)
def status_of(block: bytes) -> tuple[int, str, bytes]:
    """Code, message and details of a block of trailers; raises HeaderError."""
    fields = _FIELDS.headers_of(block)
    if "grpc-status" not in fields:
        return UNKNOWN, f"an answer without grpc-status, HTTP status {fields.get(':status')}", b""
    details = fields.get("grpc-status-details-bin", "")
    return (
        int(fields["grpc-status"]),
        unquote(fields.get("grpc-message", "")),
        base64.b64decode(details + "=" * (-len(details) % _BASE64_QUANTUM)),
    )
