"""What a gRPC call is over HTTP, for the server that speaks HTTP itself (`http2_server`).

A request's body is one frame: whether the message is compressed, how long it is, the message. An answer is a frame
too. A failure is headers without a body, gRPC's "Trailers-Only".
"""

import base64
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from services.kit.errors import InvalidArgument, ResourceExhausted, ServiceError, Unimplemented, to_status

FRAME_HEAD = 5
"""Bytes before the message: one that says whether it is compressed, four for its length."""

CONTENT_TYPE = (b"content-type", b"application/grpc")

# What is said of requests that do not arrive as they should.
TOO_MUCH = "too many large requests at a time: this connection has no room for another"
TOO_SLOW = "the request did not arrive in time"
NOT_WHOLE = "the request is not one whole gRPC message"

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])", re.ASCII)
# What may stand in a grpc-message as it is: printable ASCII without "%". A blank at either end would be lost in a
# header of HTTP/1.1.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_BLANK_AT_AN_END = re.compile(r"^ | $")


def encode_frame(reply: bytes) -> bytes:
    """An answer as it travels."""
    return b"\0" + len(reply).to_bytes(4, "big") + reply


def decode_frame(body: bytes | bytearray, metadata: Mapping[str, str], most: int) -> bytes:
    """The one message of a request, which may be the beginning of a body that is too large.

    Raises ResourceExhausted above `most` bytes, InvalidArgument or Unimplemented for what is no message.
    """
    if len(body) < FRAME_HEAD:
        raise InvalidArgument(NOT_WHOLE)
    size = int.from_bytes(body[1:FRAME_HEAD], "big")
    if size > most:
        raise _too_large(size, most)
    if len(body) != FRAME_HEAD + size:
        raise InvalidArgument(NOT_WHOLE)
    message = body[FRAME_HEAD:] if isinstance(body, bytes) else bytes(memoryview(body)[FRAME_HEAD:])
    return _inflated(message, metadata.get("grpc-encoding", ""), most) if body[0] else message


def refusal(error: ServiceError) -> list[tuple[bytes, bytes]]:
    """The headers of a failure."""
    status = to_status(error)
    message = _BLANK_AT_AN_END.sub("%20", quote(status.message, safe=_PLAIN))
    headers = [CONTENT_TYPE, (b"grpc-status", b"%d" % status.code), (b"grpc-message", message.encode())]
    if status.details:
        details = base64.b64encode(status.SerializeToString()).rstrip(b"=")
        headers.append((b"grpc-status-details-bin", details))
    return headers


def deadline(metadata: Mapping[str, str], now: float) -> float | None:
    """When the caller stops waiting, as the event loop's time, which is `now`; None when it does not say."""
    seconds = _seconds(metadata.get("grpc-timeout", ""))
    return None if seconds is None else now + seconds


# A client says the same all the time, or counts down in whole milliseconds.
@lru_cache(maxsize=4096)
def _seconds(timeout: str) -> float | None:
    """Length of a grpc-timeout; what is none is None, as for grpcio."""
    asked = _TIMEOUT.fullmatch(timeout)
    return int(asked[1]) * _UNIT_SECONDS[asked[2]] if asked else None


def _inflated(message: bytes, encoding: str, most: int) -> bytes:
    if encoding not in _WINDOW_BITS:
        raise Unimplemented(f"grpc-encoding {encoding!r} is not known; there are: {', '.join(_WINDOW_BITS)}")
    inflating = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = inflating.decompress(message, most + 1)
    except zlib.error as error:
        raise InvalidArgument(f"the request is not {encoding}") from error
    if len(plain) > most:
        raise _too_large(len(plain), most)
    if not inflating.eof:
        raise InvalidArgument(f"the request is not whole {encoding}")
    return plain


def _too_large(size: int, most: int) -> ResourceExhausted:
    # In grpcio's words, which clients look for (clients.md).
    return ResourceExhausted(f"Received message larger than max ({size} vs. {most})")
