"""A value inside a MessagePack value, by its path: the attributes of a dataclass or a pydantic model.

The bytes of the value are cut out as they are, so nothing is lost by decoding and encoding it again. A value that was
selected from is kept with the positions that were found: nodes are often bound to many attributes of one large value.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

Step: TypeAlias = str | int

# Formats by their first byte, https://github.com/msgpack/msgpack/blob/master/spec.md: sizes of the rest, in bytes.
_FIXED_SIZES: Final = {
    0xC0: 0, 0xC2: 0, 0xC3: 0,
    0xCA: 4, 0xCB: 8,
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    # fixext: a type byte and the data
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
# Sizes of the length that follows, in bytes, and what comes after it in addition to that length.
_SIZED: Final = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0),
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip
# Formats that have a number in their first byte, by its upper bits.
_FIXED_ARRAY: Final = 0x90
_FIXED_MAP: Final = 0x80
_FIXED_STRING: Final = 0xA0
_FIRST_NEGATIVE: Final = 0xE0
_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_MAPS: Final = {0xDE: 2, 0xDF: 4}
_STRINGS: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_UNSIGNED: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_SIGNED: Final = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}


# Values that are kept: what nodes that start together are bound to is rarely more.
_MOST_KEPT: Final = 2
# Positions that are kept of one map, the first ones: 30 MB.
_MOST_POSITIONS: Final = 250_000
# Of a list the position of an item every so many items is kept, and of a longer one of fewer.
_STRIDE: Final = 256
_MOST_STRIDES: Final = 4096
# As many values that contain no others are passed at once, in C.
_BLOCK_VALUES: Final = 256
_BLOCK: Final = re.compile(
    rb"(?>[\x00-\x7f\xa0\xc0\xc2\xc3\xe0-\xff]|[\xcb\xcf\xd3].{8}|[\xca\xce\xd2].{4}|[\xcc\xd0].|[\xcd\xd1]..|"
    + b"|".join(b"%c.{%d}" % (_FIXED_STRING + size, size) for size in range(1, 32))
    + rb"){256}+",
    re.DOTALL,
)


@dataclass
class _Members:
    """The members of a list or map, as far as they were passed."""

    length: int
    is_map: bool
    next: int
    """The position of the first member that was not passed."""
    passed: int = 0
    positions: dict[Step, int] = field(default_factory=dict)
    """Of the values of members, by key; of a list, of every `stride`th item by its index."""
    stride: int = 1


@dataclass
class _Value:
    """A MessagePack value, with what is known of its parts."""

    data: bytes
    members: dict[int, _Members] = field(default_factory=dict)
    """By the position of the list or map."""
    ends: dict[int, int] = field(default_factory=dict)
    """Of the parts that were selected, by their positions."""


@lru_cache(maxsize=_MOST_KEPT)
def _value(data: bytes) -> _Value:
    return _Value(data)


def select(data: bytes, path: Sequence[Step]) -> bytes:
    """Return the value at `path`, packed: names of attributes, keys of maps and indices of lists.

    Raises:
        LookupError: There is no such value.
        ValueError: The bytes are no MessagePack value.
    """
    try:
        value, position = _value(data), 0
        for step in path:
            position = _member(value, position, step)
        if (end := value.ends.get(position)) is None:
            end = value.ends[position] = _end(data, position)
        return data[position:end]
    except IndexError as error:
        raise ValueError("the value ends in the middle") from error


class _Missing(LookupError):
    """There is no such value; not an IndexError."""


def _member(value: _Value, start: int, step: Step) -> int:
    """Return where the member `step` of the list or map at `start` begins."""
    members = value.members.get(start)
    if members is None:
        members = value.members[start] = _members(value.data, start, step)
    if not members.is_map:
        return _item(value.data, members, step)
    if (position := members.positions.get(step)) is not None:
        return position
    data, position = value.data, members.next
    for passed in range(members.passed, members.length):
        key, at = _key(data, position), _end(data, position)
        position = _end(data, at)
        if key is not None and len(members.positions) < _MOST_POSITIONS:
            # Of equal keys the first one counts.
            members.positions.setdefault(key, at)
            members.next, members.passed = position, passed + 1
        if key == step and type(key) is type(step):
            return at
    raise _Missing(f"key [{step}] does not exist")


def _item(data: bytes, members: _Members, step: Step) -> int:
    if not isinstance(step, int) or not 0 <= step < members.length:
        raise _Missing(f"index [{step}] is out of range of a list of {members.length}")
    stride = members.stride
    while members.passed + stride <= step:
        members.positions[members.passed + stride] = _end(data, members.positions[members.passed], stride)
        members.passed += stride
    known = step // stride * stride
    return _end(data, members.positions[known], step - known)


def _members(data: bytes, start: int, step: Step) -> _Members:
    length, position = _container(data, start, _ARRAYS, _FIXED_ARRAY)
    if length is not None:
        stride = max(_STRIDE, length // _MOST_STRIDES)
        return _Members(length, is_map=False, next=position, positions={0: position}, stride=stride)
    length, position = _container(data, start, _MAPS, _FIXED_MAP)
    if length is None:
        raise _Missing(f"[{step}] of a value that is neither a list nor a map")
    return _Members(length, is_map=True, next=position)


def _container(data: bytes, start: int, long: dict[int, int], fixed: int) -> tuple[int | None, int]:
    """Return the length and where the first member begins; a length of None if it is no such container."""
    first = data[start]
    if first & 0xF0 == fixed:
        return first & 0x0F, start + 1
    if first in long:
        return _number(data, start + 1, long[first]), start + 1 + long[first]
    return None, start


def _key(data: bytes, start: int) -> Step | None:
    """Return a key that is a text or a whole number, None for any other."""
    first = data[start]
    if first & 0xE0 == _FIXED_STRING:
        return data[start + 1 : start + 1 + (first & 0x1F)].decode()
    if first in _STRINGS:
        begin = start + 1 + _STRINGS[first]
        return data[begin : begin + _number(data, start + 1, _STRINGS[first])].decode()
    if first < _FIXED_MAP:
        return first
    if first >= _FIRST_NEGATIVE:
        return first - 0x100
    if first in _UNSIGNED:
        return _number(data, start + 1, _UNSIGNED[first])
    return int.from_bytes(data[start + 1 : start + 1 + _SIGNED[first]], signed=True) if first in _SIGNED else None


def _number(data: bytes, start: int, size: int) -> int:
    if start + size > len(data):
        raise IndexError(start)
    return int.from_bytes(data[start : start + size])


def _end(data: bytes, start: int, count: int = 1) -> int:
    """Return where `count` values from `start` on end. Nothing recurses: values may be nested deeply."""
    position, values, one_by_one = start, count, 0
    while values:
        if one_by_one:
            one_by_one -= 1
        elif values >= _BLOCK_VALUES:
            if (block := _BLOCK.match(data, position)) is not None:
                position = block.end()
                values -= _BLOCK_VALUES
                continue
            one_by_one = _BLOCK_VALUES
        values -= 1
        first = data[position]
        position += 1
        if first & 0xF0 == _FIXED_ARRAY:
            values += first & 0x0F
        elif first & 0xF0 == _FIXED_MAP:
            values += 2 * (first & 0x0F)
        elif first & 0xE0 == _FIXED_STRING:
            position += first & 0x1F
        elif first in _FIXED_SIZES:
            position += _FIXED_SIZES[first]
        elif first in _SIZED:
            size, more = _SIZED[first]
            position += size + more + _number(data, position, size)
        elif first in _ARRAYS:
            values += _number(data, position, _ARRAYS[first])
            position += _ARRAYS[first]
        elif first in _MAPS:
            values += 2 * _number(data, position, _MAPS[first])
            position += _MAPS[first]
        elif _FIXED_MAP <= first < _FIRST_NEGATIVE:
            raise ValueError(f"{first:#x} begins no value")
    if position > len(data):
        raise IndexError(position)
    return position
