"""Types that have one field of a message: to change it without parsing the rest, which stays as bytes."""

from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_POOL = DescriptorPool()


@cache  # as many as there are callers
def text_field_type(message_type: Descriptor, *path: str) -> type[Message]:
    """Return a type that reads and writes `message_type`, but has only the text field at `path`.

    All other fields are unknown fields of it, which protobuf keeps as they are.
    """
    package = "_".join(("partial", message_type.full_name.replace(".", "_"), *path))
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    each = message_type
    for level, name in enumerate(path):
        field = each.fields_by_name[name]
        partial = file.message_type.add(name=f"Level{level}").field.add(
            name=name, number=field.number, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
        if field.message_type is None:
            partial.type = FieldDescriptorProto.TYPE_STRING
        else:
            partial.type = FieldDescriptorProto.TYPE_MESSAGE
            partial.type_name = f".{package}.Level{level + 1}"
            each = field.message_type
    _POOL.Add(file)
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{package}.Level0"))
