"""Mutations of requests: values at the limits of a field's type, in fields chosen at random."""

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

# Numbers of changes of a request. Most faults need one, some need two; with many changes it is only refused.
CHANGES = (1, 1, 1, 2, 4)
# Levels of messages within messages; protobuf's parsers stop at 100.
DEPTHS = (2, 16, 33, 64, 98)
LONG_TEXT = 100_000
MANY_ITEMS = 300
# Of a serialized request.
MOST_BYTES_CHANGED = 8

_TEXTS = (
    "", " ", "a", "A", "-", "..", "/", "\\", "a/b", "a/../b", "%2F", "x#1", "x?y=1", "a+b", "a b", "1", "-1", "1e309",
    "a\nb", "a\x00b", "\x7f", "\u202e", "\ufeff", "äöü", "💥", "日本語", "a" * 64, "a" * 256, "x" * 5_000,
    "{{ project }}", "$.x", "v1", "start-node", "flytesnacks", "development", "created_at", "file:///etc/passwd", "s3://bucket/key",
    "https://example.org", "flyte://v1/x", "eq(name,a)", "eq(name,a", "eq(phase,NONE)+gte(created_at,x)",
    "value_in(phase,RUNNING;;)", "ne(state,1)", "contains(name,%)", "eq(created_at,2024-01-01T00:00:00+00:00)",
    "0 0 * * *", "@hourly", "* * *", "PT1H", "nonsense", "1Gi", "many", "-5m",
)  # fmt: skip
_INTEGERS = (0, 1, -1, 2, 25, 99, 100, 10_000, 2**31 - 1, -(2**31))
_LONGS = (*_INTEGERS, 2**53, 2**62, 2**63 - 1, -(2**63), 253_402_300_799, 253_402_300_800, 999_999_999, 1_000_000_000)
_UNSIGNED = (0, 1, 2**31, 2**32 - 1)
_NUMBERS = (0.0, -0.0, 1.5, 1e308, -1e308, float("inf"), float("-inf"), float("nan"))

_VALUES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.CPPTYPE_INT32: _INTEGERS,
    FieldDescriptor.CPPTYPE_INT64: _LONGS,
    FieldDescriptor.CPPTYPE_UINT32: _UNSIGNED,
    FieldDescriptor.CPPTYPE_UINT64: (*_UNSIGNED, 2**64 - 1),
    FieldDescriptor.CPPTYPE_FLOAT: _NUMBERS[:4],
    FieldDescriptor.CPPTYPE_DOUBLE: _NUMBERS,
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 5, 11, 999, -1, 2**31 - 1),
    FieldDescriptor.CPPTYPE_STRING: _TEXTS,
}
_BINARY = (b"", b"\x00", b"\xff" * 16, b"x" * 15, b"x" * 17, b"{}", b"\x0a\x00" * 50)


def mutated(request: Message, rng: random.Random) -> Message:
    """Return a copy of `request` with one or a few changes."""
    copy = type(request)()
    copy.CopyFrom(request)
    for _ in range(rng.choice(CHANGES)):
        _change(rng.choice(list(_messages(copy))), rng)
    return copy


def mutated_bytes(payload: bytes, rng: random.Random) -> bytes:
    """Return `payload` cut short, with bytes changed, or with bytes appended."""
    kind = rng.randrange(3)
    if kind == 0:
        return payload[: rng.randrange(len(payload) + 1)]
    if kind == 1:
        return payload + rng.randbytes(rng.randint(1, MOST_BYTES_CHANGED))
    changed = bytearray(payload or b"\x0a")
    for _ in range(rng.randint(1, MOST_BYTES_CHANGED)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _messages(message: Message) -> Iterator[Message]:
    """Yield the message and all messages that are set within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for each in value.values():
                    yield from _messages(each)
        elif field.is_repeated:
            for each in value:
                yield from _messages(each)
        else:
            yield from _messages(value)


def _change(message: Message, rng: random.Random) -> None:
    fields = message.DESCRIPTOR.fields
    if not fields:
        return
    field: Any = rng.choice(fields)
    if rng.random() < 0.1:  # noqa: PLR2004  # one change in ten clears a field
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        _add_entry(getattr(message, field.name), field, rng)
    elif field.is_repeated:
        _add_items(getattr(message, field.name), field, rng)
    elif field.message_type is not None:
        _fill(getattr(message, field.name), rng)
    else:
        setattr(message, field.name, _value(field, rng))


def _add_entry(entries: Any, field: Any, rng: random.Random) -> None:
    parts = field.message_type.fields_by_name
    for _ in range(rng.choice((1, 1, 1, MANY_ITEMS))):
        key = _value(parts["key"], rng)
        if parts["value"].message_type is None:
            entries[key] = _value(parts["value"], rng)
        else:
            _fill(entries[key], rng)


def _add_items(items: Any, field: Any, rng: random.Random) -> None:
    number = rng.choice((1, 1, 1, 2, MANY_ITEMS))
    if field.message_type is None:
        items.extend(_value(field, rng) for _ in range(number))
        return
    for _ in range(number):
        _fill(items.add(), rng)


def _fill(message: Message, rng: random.Random) -> None:
    """Set some fields of a message, sometimes nested many levels deep."""
    message.SetInParent()
    if rng.random() < 0.2 and _nest(message, rng.choice(DEPTHS)):  # noqa: PLR2004  # one message in five
        return
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None and not field.is_repeated and rng.random() < 0.5:  # noqa: PLR2004  # each second
            setattr(message, field.name, _value(field, rng))


def _nest(message: Message, depth: int) -> bool:
    """Nest messages along a path that leads back to the same type; return False where there is none."""
    path = _path_back(message)
    if not path:
        return False
    for level in range(depth):
        field: Any = path[level % len(path)]
        value = getattr(message, field.name)
        if field.is_repeated:
            message = value["k"] if field.message_type.GetOptions().map_entry else value.add()
        else:
            value.SetInParent()
            message = value
    return True


def _path_back(message: Message) -> list[FieldDescriptor]:
    """Return fields that lead from the message to one of its own type, a few at most; empty without such a path."""
    waiting: list[tuple[Any, list[FieldDescriptor]]] = [(message.DESCRIPTOR, [])]
    while waiting:
        kind, path = waiting.pop(0)
        for field in kind.fields:
            inner: Any = field.message_type
            if inner is not None and inner.GetOptions().map_entry:
                inner = inner.fields_by_name["value"].message_type
            if inner is None or len(path) > len(DEPTHS):
                continue
            if inner is message.DESCRIPTOR:
                return [*path, field]
            waiting.append((inner, [*path, field]))
    return []


def _value(field: Any, rng: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice(_BINARY)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and rng.random() < 0.01:  # noqa: PLR2004  # one text in a hundred
        return "y" * LONG_TEXT
    return rng.choice(_VALUES[field.cpp_type])
