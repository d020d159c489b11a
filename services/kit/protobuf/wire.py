"""Encode fields in the protobuf wire format, for replies that are concatenated from stored messages.

Parsing a hundred stored messages only to serialize them again costs about fifty times what concatenating their bytes
does. Protobuf allows that: a repeated field is the concatenation of its elements. Another field may appear only once:
parsers should merge its copies, but protobufjs uses the last.
"""

from collections.abc import Iterator
from functools import lru_cache

_VARINT = 0
_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}  # bytes
_TYPE_BITS = 3
_TYPE_MASK = 7
_CONTINUES = 0x80
_LOW_BITS = 0x7F


def varint(value: int) -> bytes:
    """Return `value` (not negative) as a base-128 varint."""
    out = bytearray()
    while value > _LOW_BITS:
        out.append(value & _LOW_BITS | _CONTINUES)
        value >>= 7
    out.append(value)
    return bytes(out)


def message_field(number: int, payload: bytes) -> bytes:
    """Return field `number` with the serialized message (or raw bytes) `payload`."""
    return message_head(number, len(payload)) + payload


# A list has several for each element, with few different values: encoding them took a third of its time.
@lru_cache(maxsize=4096)
def message_head(number: int, length: int) -> bytes:
    """Return the tag and length that precede the `length` bytes of field `number`."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(length)


def string_field(number: int, text: str) -> bytes:
    """Return field `number` with `text`; nothing for an empty text, as proto3 leaves defaults out."""
    return message_field(number, text.encode()) if text else b""


def enum_field(number: int, value: int) -> bytes:
    """Return field `number` with an enum or an integer (not negative); nothing for zero."""
    return _number(number, value) if value else b""


@lru_cache(maxsize=4096)
def _number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def length_delimited(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each message, string and bytes field of a serialized message, in order.

    The content is not parsed, so it may be malformed. The iteration ends where the message itself is malformed.
    """
    at = 0
    while at < len(payload):
        tag, at = _read_varint(payload, at)
        wire_type = tag & _TYPE_MASK
        if wire_type == _LENGTH_DELIMITED:
            length, at = _read_varint(payload, at)
            yield tag >> _TYPE_BITS, payload[at : at + length]
            at += length
        elif wire_type == _VARINT:
            _, at = _read_varint(payload, at)
        elif wire_type in _FIXED:
            at += _FIXED[wire_type]
        else:
            return


def _read_varint(payload: bytes, at: int) -> tuple[int, int]:
    """Return the varint at index `at`, and the index after it; one that is cut off ends with the payload."""
    value = shift = 0
    for end in range(at, len(payload)):
        value |= (payload[end] & _LOW_BITS) << shift
        if payload[end] < _CONTINUES:
            return value, end + 1
        shift += 7
    return value, len(payload)
