"""Protobuf wire format by hand, for answers put together from stored messages.

Parsing a hundred stored messages only to serialise them again costs about fifty times what concatenating their bytes
does (architecture, section 4). Protobuf makes that legal: a repeated field is its elements one after the other. A field
that is no list may stand only once: parsers ought to merge its copies, but protobufjs keeps the last.
"""

from collections.abc import Iterator
from functools import lru_cache

_VARINT = 0
_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}  # bytes
_KIND_BITS = 3
_KINDS = 7
_CONTINUE = 0x80
_LOW_BITS = 0x7F


def varint(value: int) -> bytes:
    """`value` (not negative) as a base-128 varint."""
    out = bytearray()
    while value > _LOW_BITS:
        out.append(value & _LOW_BITS | _CONTINUE)
        value >>= 7
    out.append(value)
    return bytes(out)


def message_field(number: int, payload: bytes) -> bytes:
    """Field `number` holding the serialized message (or raw bytes) `payload`."""
    return message_head(number, len(payload)) + payload


# A list has several for each element, of few values: making them took a third of its time.
@lru_cache(maxsize=4096)
def message_head(number: int, length: int) -> bytes:
    """What stands before the `length` bytes of field `number`."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(length)


def string_field(number: int, text: str) -> bytes:
    """Field `number` holding `text`; nothing for an empty text, as proto3 leaves defaults out."""
    return message_field(number, text.encode()) if text else b""


def enum_field(number: int, value: int) -> bytes:
    """Field `number` holding an enum or a not negative integer; nothing for zero."""
    return _number(number, value) if value else b""


@lru_cache(maxsize=4096)
def _number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def length_delimited(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field of a serialized message that is a message, a text or bytes, in order.

    What is within is not looked at, so it may be what no parser takes. Ends where the message itself is broken.
    """
    at = 0
    while at < len(payload):
        tag, at = _read_varint(payload, at)
        kind = tag & _KINDS
        if kind == _LENGTH_DELIMITED:
            length, at = _read_varint(payload, at)
            yield tag >> _KIND_BITS, payload[at : at + length]
            at += length
        elif kind == _VARINT:
            _, at = _read_varint(payload, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            return


def _read_varint(payload: bytes, at: int) -> tuple[int, int]:
    """Return the varint that begins at `at`, and where it ends; one that is cut off ends with the payload."""
    value = shift = 0
    for end in range(at, len(payload)):
        value |= (payload[end] & _LOW_BITS) << shift
        if payload[end] < _CONTINUE:
            return value, end + 1
        shift += 7
    return value, len(payload)
