"""A small encoder of MessagePack, as flytekit packs dataclasses."""

import struct
from typing import Any


def packed(value: Any) -> bytes:
    """Return `value` packed in its shortest format."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return _header(len(data), 0xA0, 32, {1: 0xD9, 2: 0xDA, 4: 0xDB}) + data
    if isinstance(value, bytes):
        return _header(len(value), 0, 0, {1: 0xC4, 2: 0xC5, 4: 0xC6}) + value
    if isinstance(value, list):
        return _header(len(value), 0x90, 16, {2: 0xDC, 4: 0xDD}) + b"".join(map(packed, value))
    members = b"".join(packed(key) + packed(member) for key, member in value.items())
    return _header(len(value), 0x80, 16, {2: 0xDE, 4: 0xDF}) + members


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack("b" if value < 0 else "B", value)
    formats = (0xCC, 0xCD, 0xCE, 0xCF) if value >= 0 else (0xD0, 0xD1, 0xD2, 0xD3)
    for first, size in zip(formats, (1, 2, 4, 8), strict=True):
        try:
            return bytes([first]) + value.to_bytes(size, signed=value < 0)
        except OverflowError:
            continue
    raise OverflowError(value)


def _header(length: int, fixed: int, below: int, formats: dict[int, int]) -> bytes:
    if length < below:
        return bytes([fixed | length])
    size = next(each for each in formats if length < 1 << (8 * each))
    return bytes([formats[size]]) + length.to_bytes(size)
