"""Protobuf wire format by hand, for answers put together from stored messages.

Parsing a hundred stored messages only to serialise them again costs about fifty times what concatenating their bytes
does (architecture, section 4). Protobuf makes that legal: a repeated field is its elements one after the other. A field
that is no list may stand only once: parsers ought to merge its copies, but protobufjs keeps the last.
"""

from functools import lru_cache

_LENGTH_DELIMITED = 2
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
    return _head(number, len(payload)) + payload


# A list has several for each element, of few values: making them took a third of its time.
@lru_cache(maxsize=4096)
def _head(number: int, length: int) -> bytes:
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
