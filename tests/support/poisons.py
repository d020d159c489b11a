"""Values that protobuf allows and some client cannot read, in every field of a message that can contain one.

All of it is made from descriptors, so new methods and fields are tested as well.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.protobuf.readable import (
    FIRST_SECOND,
    LAST_SECOND,
    LONGEST_SECONDS,
    MOST_LEVELS,
    NANOS_PER_SECOND,
    descriptor_of,
    map_value,
)
from services.kit.protobuf.wire import message_field, string_field, varint

Path = tuple[FieldDescriptor, ...]

_NAN = Value(number_value=math.nan)

POISONS: Mapping[str, Sequence[Message]] = {
    Timestamp.DESCRIPTOR.full_name: (
        Timestamp(seconds=2**62),
        Timestamp(seconds=LAST_SECOND + 1),
        Timestamp(seconds=FIRST_SECOND - 1),
        Timestamp(nanos=-1),
        Timestamp(nanos=NANOS_PER_SECOND),
    ),
    Duration.DESCRIPTOR.full_name: (
        Duration(seconds=LONGEST_SECONDS + 1),
        Duration(seconds=-(2**62)),
        Duration(seconds=1, nanos=-1),
        Duration(nanos=NANOS_PER_SECOND),
    ),
    Struct.DESCRIPTOR.full_name: (
        Struct(fields={"a": _NAN}),
        Struct(fields={"a": Value(number_value=-math.inf)}),
        Struct(fields={"a": Value()}),
        Struct(fields={"a": Value(list_value=ListValue(values=[Value(), _NAN]))}),
        Struct(fields={"a": Value(struct_value=Struct(fields={"b": _NAN}))}),
    ),
}


def poisoned(kind: Descriptor) -> Iterator[tuple[str, bytes]]:
    """Yield a serialized message of this `kind` for each poison in each field of each type, after its description."""
    for path in message_paths(kind):
        held = path[-1].message_type
        assert held is not None
        for poison in POISONS.get(held.full_name, ()):
            yield f"{dotted(path)} = {poison!s:.60}", wrapped(path, poison.SerializeToString())
        cycle = path_back(held)
        if cycle:
            payload = deep(path, cycle, MOST_LEVELS)
            yield f"{dotted(path)} nested", payload
    yield "groups", groups(MOST_LEVELS - 2)


def texts(kind: Descriptor, text: str) -> Iterator[tuple[str, bytes]]:
    """Yield a serialized message of this `kind` for a text in each field of each type, after the path of the field."""
    holders = [((), kind), *((path, _held(path[-1])) for path in message_paths(kind))]
    known = set()
    for path, holder in holders:
        if holder.full_name in known or holder.full_name in POISONS:
            continue
        known.add(holder.full_name)
        for field in holder.fields:
            if field.type == FieldDescriptor.TYPE_STRING:
                yield dotted((*path, field)), wrapped(path, string_field(field.number, text))
            elif _is_map_of_plain_values(field):
                entry = string_field(1, text) + string_field(2, text)
                yield dotted((*path, field)), wrapped(path, message_field(field.number, entry))


def deep(path: Path, cycle: Path, levels: int) -> bytes:
    """Return a message of `levels` levels at most: by `path` to a type that contains itself by `cycle`, repeated."""
    times = (levels - depth(path)) // depth(cycle)
    return wrapped(path + cycle * times, b"")


def groups(levels: int, number: int = 15_000) -> bytes:
    """Return nested groups of an unknown field: parsers count them as levels too."""
    return varint(number << 3 | 3) * levels + varint(number << 3 | 4) * levels


def message_paths(kind: Descriptor) -> list[Path]:
    """Return the shortest path to each field of each type within `kind` that contains a message."""
    paths: list[Path] = []
    known = {kind.full_name}
    waiting: deque[tuple[Descriptor, Path]] = deque([(kind, ())])
    while waiting:
        holder, path = waiting.popleft()
        for field in holder.fields:
            held = map_value(field) or field.message_type
            if held is None or _is_map_of_plain_values(field):
                continue
            paths.append((*path, field))
            if held.full_name not in known and held.full_name not in POISONS:
                known.add(held.full_name)
                waiting.append((held, (*path, field)))
    return paths


def path_back(kind: Descriptor) -> Path:
    """Return the shortest path from a type to a field of the same type; empty when there is none."""
    return next((path for path in message_paths(kind) if _held(path[-1]).full_name == kind.full_name), ())


def wrapped(path: Sequence[FieldDescriptor], payload: bytes) -> bytes:
    """Return a serialized message with `payload` at `path`, in entries named `a` where that is a map."""
    for field in reversed(path):
        content = string_field(1, "a") + message_field(2, payload) if map_value(field) else payload
        payload = message_field(field.number, content)
    return payload


def depth(path: Sequence[FieldDescriptor]) -> int:
    """Return the levels of messages of a path; an entry of a map is one."""
    return sum(1 if map_value(field) is None else 2 for field in path)


def dotted(path: Sequence[FieldDescriptor]) -> str:
    """Return a path as text, with dots between the fields."""
    return ".".join(field.name for field in path)


def _held(field: FieldDescriptor) -> Descriptor:
    held = map_value(field) or field.message_type
    assert held is not None
    return held


def _is_map_of_plain_values(field: FieldDescriptor) -> bool:
    entry = field.message_type
    return entry is not None and entry.GetOptions().map_entry and map_value(field) is None


def fields_to(message: Message, dotted_path: str) -> Path:
    """Return the fields of a path with dots between."""
    kind: Descriptor | None = descriptor_of(message)
    path: list[FieldDescriptor] = []
    for name in dotted_path.split("."):
        assert kind is not None
        path.append(kind.fields_by_name[name])
        kind = path[-1].message_type
    return tuple(path)
