"""Count the parts of a serialized message, to know its memory before it is parsed.

A submessage of two bytes takes some hundred bytes when it is parsed and read.
"""

from collections.abc import Collection
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.protobuf.readable import MOST_LEVELS

_POOL = DescriptorPool()  # of the flat types; the names in it are those of the message types


def count_parts(message_type: Descriptor, payload: bytes, most: int, opaque: Collection[Descriptor] = ()) -> int:
    """Return how many submessages, map entries and items of lists `payload` has; after `most`, a number above it.

    All submessages of one type that are equally deep are counted at once: their concatenation is a message with the
    parts of all. So this takes a tenth of the time and memory of parsing. The number for a malformed message may be too
    small; the parser refuses that. A message of an `opaque` type is one part.

    Raises:
        DecodeError: `payload` is malformed.
    """
    count = 0
    level = {message_type: [payload]}
    for _ in range(MOST_LEVELS):
        deeper: dict[Descriptor, list[bytes]] = {}
        for each, contents in level.items():
            flat_type, fields = _flat(each)
            flat = flat_type.FromString(b"".join(contents))
            for name, submessage in fields:
                items = getattr(flat, name)
                count += len(items)
                if count > most:
                    return count
                if items and submessage is not None and submessage not in opaque:
                    deeper.setdefault(submessage, []).append(b"".join(items))
        level = deeper
    return count


@cache  # as many as there are types
def _flat(message_type: Descriptor) -> tuple[type[Message], list[tuple[str, Descriptor | None]]]:
    """Return a type that has every part of a message as bytes, and its fields with the types of their submessages."""
    name = message_type.full_name.replace(".", "_")
    file = FileDescriptorProto(name=f"flat/{name}.proto", package="flat", syntax="proto3")
    flat = file.message_type.add(name=name)
    fields = []
    for field in message_type.fields:
        texts = field.is_repeated and field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
        if field.message_type is not None or texts:
            flat.field.add(
                name=f"field_{field.number}",
                number=field.number,
                label=FieldDescriptorProto.LABEL_REPEATED,
                type=FieldDescriptorProto.TYPE_BYTES,
            )
            fields.append((f"field_{field.number}", field.message_type))
    _POOL.Add(file)
    return GetMessageClass(_POOL.FindMessageTypeByName(f"flat.{name}")), fields
