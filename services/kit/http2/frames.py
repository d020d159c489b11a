"""Frames of HTTP/2 (RFC 9113): layouts, types, flags, settings, error codes and limits."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes that a client sends."""

FRAME = struct.Struct(">HBBBI")
"""The header of a frame: length of the payload (the upper 16 and the lower 8 bits), type, flags, stream identifier."""
SETTING = struct.Struct(">HI")
"""A setting: identifier, value."""
UINT32 = struct.Struct(">I")
"""An error code, a stream identifier or a window size increment."""

# Types of frames.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
# Flags.
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
# Settings.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 2, 3, 4
MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 5, 6
# Error codes.
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11

PRIORITY_BYTES = 5
FIXED_SIZES = {PRIORITY: PRIORITY_BYTES, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
"""The length of payloads that have a fixed one, by type."""
OF_THE_CONNECTION = frozenset((SETTINGS, PING, GOAWAY))
"""Types of frames that belong to no stream."""

# Defaults until settings change them (RFC 9113, 6.5.2).
INITIAL_WINDOW = 65_535
FRAME_SIZE = 16_384

LARGEST_FRAME_SIZE = (1 << 24) - 1
LARGEST_WINDOW = (1 << 31) - 1
STREAM_BITS = (1 << 31) - 1
"""The bits of a stream identifier or a window size increment; the highest bit is reserved."""


class ProtocolError(Exception):
    """The other side violates HTTP/2; the connection ends with this error code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def frame(frame_type: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    """Return an encoded frame; `stream_id` is 0 for a frame of the connection."""
    size = len(payload)
    return FRAME.pack(size >> 8, size & 0xFF, frame_type, flags, stream_id) + payload


def strip_padding(payload: bytes) -> bytes:
    """Return the payload of a padded frame without its padding; raise ProtocolError when that is too long."""
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(PROTOCOL_ERROR)
    return payload[1 : len(payload) - payload[0]]


def header_block(flags: int, payload: bytes) -> bytes:
    """Return the part of a header block in a HEADERS frame; raise ProtocolError when the frame is too short."""
    if flags & PADDED:
        payload = strip_padding(payload)
    if not flags & PRIORITIZED:
        return payload
    if len(payload) < PRIORITY_BYTES:
        raise ProtocolError(FRAME_SIZE_ERROR)
    return payload[PRIORITY_BYTES:]
