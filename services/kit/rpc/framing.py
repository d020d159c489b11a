"""The HTTP form of a unary gRPC call, for `http2_server`.

The body of a request is one length-prefixed message of gRPC: a compression flag, the length, the message. So is that of
a reply. A failure is headers without a body, gRPC's "Trailers-Only".
"""

import base64
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from services.kit.errors import InvalidArgument, ResourceExhausted, ServiceError, Unimplemented, to_status
from services.kit.rpc.cpu_pool import MOST_LOOP_BYTES

FRAME_HEAD = 5
"""Bytes before the message: one for the compression flag, four for the length."""

CONTENT_TYPE = (b"content-type", b"application/grpc")

# Messages of errors for incomplete and malformed requests.
TOO_MUCH = "too many large requests at a time: this connection has no room for another"
TOO_SLOW = "the request did not arrive in time"
NOT_WHOLE = "the request is not one whole gRPC message"

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_MOST_TIMEOUT_CHARACTERS = 9
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])", re.ASCII)
# Characters of a grpc-message that are not escaped: printable ASCII without "%". A space at either end would be lost in
# a header of HTTP/1.1.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_OUTER_SPACE = re.compile(r"^ | $")


class CompressedMessage(NamedTuple):
    """A request that is decompressed when it is its turn: a thousand bytes may become megabytes."""

    content: bytes
    encoding: str
    most: int  # bytes that the message may have

    def decompressed(self) -> bytes:
        """Return the message.

        Raises:
            ResourceExhausted: the message is larger than `most`.
            InvalidArgument: the content is malformed.
        """
        message = _decompress(self.content, self.encoding, self.most)
        if message is None:
            raise _too_large(self.most + 1, self.most)
        return message


def encode_frame(reply: bytes) -> bytes:
    """Return the frame of a serialized reply."""
    return b"\0" + len(reply).to_bytes(4, "big") + reply


def decode_frame(body: bytes | bytearray, metadata: Mapping[str, str], most: int) -> bytes | CompressedMessage:
    """Return the one message of a request; one that is larger than MOST_LOOP_BYTES stays compressed.

    Args:
        body: the body, or the beginning of one that is too large.
        metadata: the headers of the request.
        most: bytes that the message may have.

    Raises:
        ResourceExhausted: the message is larger.
        InvalidArgument: the body is not one whole message.
        Unimplemented: its compression is not supported.
    """
    if len(body) < FRAME_HEAD:
        raise InvalidArgument(NOT_WHOLE)
    size = int.from_bytes(body[1:FRAME_HEAD], "big")
    if size > most:
        raise _too_large(size, most)
    if len(body) != FRAME_HEAD + size:
        raise InvalidArgument(NOT_WHOLE)
    message = body[FRAME_HEAD:] if isinstance(body, bytes) else bytes(memoryview(body)[FRAME_HEAD:])
    return _decode_compressed(message, metadata.get("grpc-encoding", ""), most) if body[0] else message


def failure_headers(error: ServiceError) -> list[tuple[bytes, bytes]]:
    """Return the headers of a failed call."""
    status = to_status(error)
    message = _OUTER_SPACE.sub("%20", quote(status.message, safe=_PLAIN))
    headers = [CONTENT_TYPE, (b"grpc-status", b"%d" % status.code), (b"grpc-message", message.encode())]
    if status.details:
        details = base64.b64encode(status.SerializeToString()).rstrip(b"=")
        headers.append((b"grpc-status-details-bin", details))
    return headers


def deadline(metadata: Mapping[str, str], now: float) -> float | None:
    """Return when the caller stops waiting, in the event loop's time, which is `now`; None without a deadline."""
    timeout = metadata.get("grpc-timeout", "")
    seconds = _seconds(timeout) if len(timeout) <= _MOST_TIMEOUT_CHARACTERS else None  # the cache has no long texts
    return None if seconds is None else now + seconds


# A client sends the same value each time, or counts down in whole milliseconds.
@lru_cache(maxsize=4096)
def _seconds(timeout: str) -> float | None:
    """Return the length of a grpc-timeout; None for a malformed one, as in grpcio."""
    match = _TIMEOUT.fullmatch(timeout)
    return int(match[1]) * _UNIT_SECONDS[match[2]] if match else None


def _decode_compressed(content: bytes, encoding: str, most: int) -> bytes | CompressedMessage:
    if encoding not in _WINDOW_BITS:
        raise Unimplemented(f"grpc-encoding {encoding!r} is not known; there are: {', '.join(_WINDOW_BITS)}")
    compressed = CompressedMessage(content, encoding, most)
    small = _decompress(content, encoding, MOST_LOOP_BYTES) if len(content) <= MOST_LOOP_BYTES else None
    return compressed if small is None else small


def _decompress(content: bytes, encoding: str, most: int) -> bytes | None:
    """Return the message; None if it is larger than `most`."""
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        message = decompressor.decompress(content, most + 1)
    except zlib.error as error:
        raise InvalidArgument(f"the request is not {encoding}") from error
    if len(message) > most:
        return None
    if not decompressor.eof:
        raise InvalidArgument(f"the request is not whole {encoding}")
    return message


def _too_large(size: int, most: int) -> ResourceExhausted:
    # grpcio's message, which clients search for (common.md#errors).
    return ResourceExhausted(f"Received message larger than max ({size} vs. {most})")
