"""The number of parts of a message: what it costs to write as JSON, which its size in bytes does not show.

Two bytes can be an empty message, which becomes an object with all of its fields.
"""

from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.kit.protobuf.readable import descriptor_of, map_value

# A message costs Envoy as much as some five of its plain fields.
_PARTS_OF_MESSAGE = 5


@dataclass
class _Shape:
    """What to count in messages of one type.

    Attributes:
        own: parts of a message without those of its messages and items.
        flat: whether there is nothing else to count.
    """

    own: int = 0
    flat: bool = False
    singular: list[tuple[str, "_Shape"]] = field(default_factory=list)
    scalars: list[str] = field(default_factory=list)
    repeated: list[tuple[str, "_Shape"]] = field(default_factory=list)
    maps: list[tuple[str, "_Shape"]] = field(default_factory=list)


_shapes: dict[str, _Shape] = {}  # by the full name of the type


def count_json_parts(message: Message, most: int) -> int:
    """Return the number of parts; some number above `most`, without counting on, if there are more."""
    return _count(message, _shape(descriptor_of(message)), most)


def _count(message: Message, shape: _Shape, most: int) -> int:
    total = shape.own
    for name, inner in shape.singular:
        if message.HasField(name):
            total += _count(getattr(message, name), inner, most - total)
    for name in shape.scalars:
        total += len(getattr(message, name))
    for name, inner in shape.repeated:
        items = getattr(message, name)
        if inner.flat:
            total += inner.own * len(items)
            continue
        for item in items:
            total += _count(item, inner, most - total)
            if total > most:
                return total
    for name, inner in shape.maps:
        members = getattr(message, name)
        total += len(members)
        for key in members:
            total += _count(members[key], inner, most - total)
            if total > most:
                return total
    return total


def _shape(message_type: Descriptor) -> _Shape:
    known = _shapes.get(message_type.full_name)
    if known is not None:
        return known
    # Registered before its fields are: the type may be recursive.
    shape = _shapes[message_type.full_name] = _Shape(own=_PARTS_OF_MESSAGE + len(message_type.oneofs))
    shape.flat = not any(each.message_type is not None or each.is_repeated for each in message_type.fields)
    for each in message_type.fields:
        _add(shape, each)
    return shape


def _add(shape: _Shape, each: FieldDescriptor) -> None:
    # Envoy writes lists, maps and plain fields also when they are empty.
    shape.own += each.is_repeated or (each.message_type is None and each.containing_oneof is None)
    if each.message_type is None:
        if each.is_repeated:
            shape.scalars.append(each.name)
    elif (value := map_value(each)) is not None:
        shape.maps.append((each.name, _shape(value)))
    elif each.message_type.GetOptions().map_entry:
        shape.scalars.append(each.name)
    elif each.is_repeated:
        shape.repeated.append((each.name, _shape(each.message_type)))
    else:
        shape.singular.append((each.name, _shape(each.message_type)))
